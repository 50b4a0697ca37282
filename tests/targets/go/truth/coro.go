//go:build go1.23

package main

import (
	"errors"
	"iter"
	"unique"
)

const coroutinesBuilt = true

var (
	coroSite = newSite()
	coroHeld []func()
	// interned keeps unique's map and its runtime goroutine in the picture.
	interned = unique.Make("truth")
)

func init() {
	commands["coroutines"] = command{"coroutines N", churn(coroutines)}
	commands["coroutines-leave"] = command{"coroutines-leave N", coroutinesLeave}
	commands["coroutines-stop"] = command{"coroutines-stop", coroutinesStop}
}

// count is pulled from; each iter.Pull over it is one goroutine.
func count(s *site) iter.Seq[int] {
	return func(yield func(int) bool) {
		s.learn()
		for i := 0; i < 5; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// pull makes a coroutine. Its goroutine is there when iter.Pull returns, whether or not it ever runs.
func pull() (next func() (int, bool), stop func()) {
	coroSite.starting()
	next, end := iter.Pull(count(coroSite))
	coroSite.entered.Add(1)
	return next, func() {
		end()
		coroSite.ending()
	}
}

// coroutines pulls n sequences: some to their end, some stopped half way, some never begun.
func coroutines(n, _ int) *site {
	for i := 0; i < n; i++ {
		next, stop := pull()
		for k := 0; k < i%8; k++ {
			if _, more := next(); !more {
				break
			}
		}
		if i%8 == 0 && coroSite.name() == "" {
			next()
		}
		stop()
	}
	return coroSite
}

func coroutinesLeave(args []string) (interface{}, error) {
	n, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	for i := 0; i < n; i++ {
		next, stop := pull()
		next()
		coroHeld = append(coroHeld, stop)
	}
	if err := settle(); err != nil {
		return nil, err
	}
	started, ended := coroSite.started.Load(), coroSite.ended.Load()
	return heldNow{coroSite.name(), entry{started - ended, started, ended}}, nil
}

func coroutinesStop([]string) (interface{}, error) {
	if len(coroHeld) == 0 {
		return nil, errors.New("no coroutines are held")
	}
	for _, stop := range coroHeld {
		stop()
	}
	coroHeld = nil
	return none{}, nil
}
