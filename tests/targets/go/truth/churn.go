package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

var (
	stormSite       = newSite()
	stormWorkerSite = newSite()
	stormTaskSite   = newSite()
	stackSite       = newSite()
	gcSite          = newSite()
	panicSite       = newSite()
	goexitSite      = newSite()
	nestSite        = newSite()
	nestChildSite   = newSite()
	nestGrandSite   = newSite()
)

func init() {
	commands["storm"] = command{"storm N [WORKERS]", churn(storm)}
	commands["stacks"] = command{"stacks N", churn(func(n int, _ int) *site { return each(n, 64, stackSite, startDeep) })}
	commands["gcstorm"] = command{"gcstorm N", churn(gcStorm)}
	commands["panics"] = command{"panics N", churn(func(n int, _ int) *site { return each(n, 256, panicSite, startPanic) })}
	commands["goexit"] = command{"goexit N", churn(func(n int, _ int) *site { return each(n, 256, goexitSite, startGoexit) })}
	commands["nested"] = command{"nested N", churn(func(n int, _ int) *site { return each(n, 256, nestSite, startNested) })}
	commands["busy"] = command{"busy SECONDS RATE", busy}
	commands["idle"] = command{"idle", idle}
}

// churn makes a command of a function that starts n goroutines, all of which end.
func churn(run func(n, workers int) *site) func([]string) (interface{}, error) {
	return func(args []string) (interface{}, error) {
		n, err := number(args, 0, -1)
		if err != nil {
			return nil, err
		}
		workers, err := number(args, 1, 0)
		if err != nil {
			return nil, err
		}
		before, live := startedTotal(), liveTotal()
		main := run(n, workers)
		if err := await("the end of all", func() bool { return liveTotal() == live }); err != nil {
			return nil, err
		}
		return work{Function: main.name(), Started: startedTotal() - before}, nil
	}
}

func startedTotal() (started int64) {
	for _, s := range sites() {
		started += s.started.Load()
	}
	return started
}

// each calls start n times and keeps at most inFlight of its goroutines alive.
func each(n, inFlight int, s *site, start func()) *site {
	for i := 0; i < n; i++ {
		s.starting()
		start()
		for s.live() >= int64(inFlight) {
			runtime.Gosched()
		}
	}
	return s
}

// storm starts n goroutines that do nothing: itself, or from that many workers.
func storm(n, workers int) *site {
	if workers == 0 {
		return each(n, 4096, stormSite, startShort)
	}
	for w := 0; w < workers; w++ {
		share := n / workers
		if w < n%workers {
			share++
		}
		startStormWorker(share, int64(4096/workers+1))
	}
	return stormTaskSite
}

//go:noinline
func startShort() {
	go func() {
		stormSite.learn()
		stormSite.ending()
	}()
}

//go:noinline
func startStormWorker(share int, inFlight int64) {
	stormWorkerSite.starting()
	go func() {
		defer stormWorkerSite.ending()
		stormWorkerSite.enter()
		mine := new(atomic.Int64)
		for i := 0; i < share; i++ {
			startStormTask(mine)
			for mine.Load() >= inFlight {
				runtime.Gosched()
			}
		}
	}()
}

//go:noinline
func startStormTask(mine *atomic.Int64) {
	stormTaskSite.starting()
	mine.Add(1)
	go func() {
		stormTaskSite.learn()
		mine.Add(-1)
		stormTaskSite.ending()
	}()
}

//go:noinline
func startDeep() {
	go func() {
		defer stackSite.ending()
		stackSite.enter()
		over := make(chan struct{})
		close(over)
		// 100 frames of 256 bytes, again and again deeper: the stack moves from 2 KiB up to 256 KiB.
		for rounds := 1; rounds <= 6; rounds++ {
			sink.Add(int64(grow(1 << (2 * rounds) / 4)))
		}
		descend(100, over)
	}()
}

var sink atomic.Int64

//go:noinline
func grow(depth int) byte {
	var room [160]byte
	room[depth%len(room)] = 1
	if depth > 0 {
		return grow(depth-1) + room[depth%len(room)]
	}
	return room[0]
}

// gcStorm starts goroutines that hold on to fresh memory, while collections run.
func gcStorm(n, _ int) *site {
	for i := 0; i < n; i++ {
		gcSite.starting()
		startAllocating(i)
		if i%500 == 499 {
			runtime.GC()
		}
		for gcSite.live() >= 128 {
			runtime.Gosched()
		}
	}
	return gcSite
}

//go:noinline
func startAllocating(i int) {
	go func() {
		defer gcSite.ending()
		gcSite.enter()
		var chain [][]byte
		for k := 0; k < 16; k++ {
			chain = append(chain, make([]byte, 512<<(uint(i+k)%6)))
			if k%5 == 0 {
				runtime.Gosched()
			}
		}
		sink.Add(int64(len(chain)))
	}()
}

//go:noinline
func startPanic() {
	go func() {
		defer panicSite.ending()
		defer func() {
			if recover() == nil {
				fmt.Println("err a panic was lost")
			}
		}()
		panicSite.enter()
		var none map[string]int
		none["x"] = 1
	}()
}

//go:noinline
func startGoexit() {
	go func() {
		defer goexitSite.ending()
		goexitSite.enter()
		func() { runtime.Goexit() }()
	}()
}

// startNested starts a goroutine that starts one that starts one.
//
//go:noinline
func startNested() {
	go func() {
		defer nestSite.ending()
		nestSite.enter()
		nestChildSite.starting()
		startChild()
	}()
}

//go:noinline
func startChild() {
	go func() {
		defer nestChildSite.ending()
		nestChildSite.enter()
		nestGrandSite.starting()
		startGrandchild()
	}()
}

//go:noinline
func startGrandchild() {
	go func() {
		defer nestGrandSite.ending()
		nestGrandSite.enter()
	}()
}

// background is the churn that `busy` starts and `idle` ends.
var background churner

type churner struct {
	round    sync.Mutex // held while a round of goroutines is alive, and while a command runs
	running  atomic.Bool
	loopSite *site
	taskSite *site
}

func init() {
	background.loopSite, background.taskSite = newSite(), newSite()
}

func (c *churner) on() bool { return c.running.Load() }

// pause lets no round begin until resume is called; the loop itself stays alive.
func (c *churner) pause() (resume func()) {
	c.round.Lock()
	return c.round.Unlock
}

func busy(args []string) (interface{}, error) {
	seconds, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	rate, err := number(args, 1, -1)
	if err != nil {
		return nil, err
	}
	if background.loopSite.live() > 0 {
		return nil, fmt.Errorf("it is busy already")
	}
	background.running.Store(true)
	startBusy(time.Duration(seconds)*time.Second, rate)
	return none{}, nil
}

func idle([]string) (interface{}, error) {
	background.running.Store(false)
	background.round.Unlock() // so that the loop sees it
	for background.loopSite.live() > 0 {
		time.Sleep(100 * time.Microsecond)
	}
	background.round.Lock()
	return none{}, nil
}

//go:noinline
func startBusy(length time.Duration, rate int) {
	c := &background
	c.loopSite.starting()
	go func() {
		defer c.loopSite.ending()
		c.loopSite.enter()
		defer c.running.Store(false)
		began, last, due := time.Now(), time.Now(), 0.0
		for c.running.Load() && time.Since(began) < length {
			c.round.Lock()
			now := time.Now()
			if due += now.Sub(last).Seconds() * float64(rate); due > float64(rate) {
				due = float64(rate) // what a long command held up is not caught up with
			}
			last = now
			for ; due >= 1; due-- {
				c.taskSite.starting()
				startBusyTask(c.taskSite)
				for c.taskSite.live() >= 1024 {
					runtime.Gosched()
				}
			}
			for c.taskSite.live() > 0 {
				runtime.Gosched()
			}
			c.round.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	}()
}

//go:noinline
func startBusyTask(s *site) {
	go func() {
		defer s.ending()
		s.enter()
		runtime.Gosched()
	}()
}
