package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// leak starts one goroutine that blocks. What it returns lets that goroutine end; nil: nothing can.
type leak func(*site) (release func())

// leakSite is one kind of leak with its book and the goroutines that are still held.
type leakSite struct {
	start leak
	site  *site
	held  []func()
	spins bool // it never parks
}

var leaks = map[string]*leakSite{}

func addLeak(name string, start leak) { leaks[name] = &leakSite{start: start, site: newSite()} }

func init() {
	addLeak("chan", leakChan)
	addLeak("send", leakSend)
	addLeak("select", leakSelect)
	addLeak("selectnone", leakSelectNone)
	addLeak("mutex", leakMutex)
	addLeak("rwmutex", leakRWMutex)
	addLeak("waitgroup", leakWaitGroup)
	addLeak("cond", leakCond)
	addLeak("sleep", leakSleep)
	addLeak("sleeplong", leakSleepLong)
	addLeak("nilchan", leakNilChan)
	addLeak("closure", leakClosure)
	addLeak("method", func(s *site) func() { return theServer.accept(s) })
	addLeak("generic", func(s *site) func() { return worker(s, 7) })
	addLeak("genericstring", func(s *site) func() { return worker(s, "seven") })
	addLeak("inlined", leakInlined)
	addLeak("deep", leakDeep)
	addLeak("context", leakContext)
	addLeak("iowait", leakIOWait)
	addLeak("afterfunc", leakAfterFunc)
	addLeak("spin", leakSpin)
	leaks["spin"].spins = true
	commands["spawn"] = command{"spawn SITE N", spawn}
	commands["finish"] = command{"finish SITE N", finish}
	commands["sites"] = command{"sites", func([]string) (interface{}, error) { return siteNames(), nil }}
}

// heldNow is the answer of spawn and finish.
type heldNow struct {
	Function string `json:"function"`
	entry
}

func siteNames() []string {
	var names []string
	for name := range leaks {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func leakNamed(args []string) (*leakSite, int, error) {
	if len(args) != 2 {
		return nil, 0, errors.New("a site and a count are needed")
	}
	l, known := leaks[args[0]]
	if !known {
		return nil, 0, fmt.Errorf("unknown site %q; there are %v", args[0], siteNames())
	}
	n, err := number(args, 1, -1)
	return l, n, err
}

func (l *leakSite) now() heldNow {
	started, ended := l.site.started.Load(), l.site.ended.Load()
	return heldNow{l.site.name(), entry{started - ended, started, ended}}
}

func spawn(args []string) (interface{}, error) {
	l, n, err := leakNamed(args)
	if err != nil {
		return nil, err
	}
	for i := 0; i < n; i++ {
		if release := l.start(l.site); release != nil {
			l.held = append(l.held, release)
		}
	}
	if l.spins {
		err = settle()
	} else {
		err = parked(l.site)
	}
	return l.now(), err
}

func finish(args []string) (interface{}, error) {
	l, n, err := leakNamed(args)
	if err != nil {
		return nil, err
	}
	if n > len(l.held) {
		return nil, fmt.Errorf("%d goroutines of this site can end, not %d", len(l.held), n)
	}
	due := l.site.ended.Load() + int64(n)
	// The oldest first, as a queue would be drained.
	for _, release := range l.held[:n] {
		release()
	}
	l.held = append([]func(){}, l.held[n:]...)
	if err := await("ending", func() bool { return l.site.ended.Load() >= due }); err != nil {
		return nil, err
	}
	return l.now(), settle()
}

//go:noinline
func leakChan(s *site) func() {
	c := make(chan struct{})
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		<-c
	}()
	return func() { close(c) }
}

//go:noinline
func leakSend(s *site) func() {
	c := make(chan int)
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		c <- 1
	}()
	return func() { <-c }
}

//go:noinline
func leakSelect(s *site) func() {
	a, b := make(chan int), make(chan int)
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		select {
		case <-a:
		case b <- 1:
		}
	}()
	return func() { close(a) }
}

//go:noinline
func leakSelectNone(s *site) func() {
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		select {}
	}()
	return nil
}

//go:noinline
func leakMutex(s *site) func() {
	m := new(sync.Mutex)
	m.Lock()
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		m.Lock()
		m.Unlock()
	}()
	return m.Unlock
}

//go:noinline
func leakRWMutex(s *site) func() {
	m := new(sync.RWMutex)
	m.Lock()
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		m.RLock()
		m.RUnlock()
	}()
	return m.Unlock
}

//go:noinline
func leakWaitGroup(s *site) func() {
	w := new(sync.WaitGroup)
	w.Add(1)
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		w.Wait()
	}()
	return w.Done
}

//go:noinline
func leakCond(s *site) func() {
	c, over := sync.NewCond(new(sync.Mutex)), false
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		c.L.Lock()
		defer c.L.Unlock()
		for !over {
			c.Wait()
		}
	}()
	return func() {
		c.L.Lock()
		over = true
		c.L.Unlock()
		c.Signal()
	}
}

// leakSleep sleeps in naps, because a sleeping goroutine cannot be woken: it ends within one nap.
//
//go:noinline
func leakSleep(s *site) func() {
	over := new(atomic.Bool)
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		for !over.Load() {
			time.Sleep(200 * time.Millisecond)
		}
	}()
	return func() { over.Store(true) }
}

//go:noinline
func leakSleepLong(s *site) func() {
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		time.Sleep(1000 * time.Hour)
	}()
	return nil
}

//go:noinline
func leakNilChan(s *site) func() {
	var never chan struct{}
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		<-never
	}()
	return nil
}

//go:noinline
func leakClosure(s *site) func() {
	c := make(chan struct{})
	outer := func() {
		inner := func() {
			s.starting()
			go func() {
				defer s.ending()
				s.enter()
				<-c
			}()
		}
		inner()
	}
	outer()
	return func() { close(c) }
}

type server struct{ backlog int }

var theServer = &server{}

//go:noinline
func (srv *server) accept(s *site) func() {
	c := make(chan struct{})
	srv.backlog++
	s.starting()
	go srv.serve(s, c)
	return func() { close(c) }
}

//go:noinline
func (srv *server) serve(s *site, c chan struct{}) {
	defer s.ending()
	s.enter()
	<-c
}

//go:noinline
func worker[T any](s *site, item T) func() {
	c := make(chan T)
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		<-c
	}()
	return func() { c <- item }
}

// leakInlined blocks in a small function that the compiler inlines, so the stack has a frame that is no
// function of its own. (The creator never is such a frame: no version of Go inlines a function with a go
// statement, so the creator is launch, not this function.)
//
//go:noinline
func leakInlined(s *site) func() {
	c := make(chan struct{})
	launch(func() {
		defer s.ending()
		s.enter()
		waitFor(c)
	}, s)
	return func() { close(c) }
}

func launch(f func(), s *site) {
	s.starting()
	go f()
}

func waitFor(c chan struct{}) { <-c }

//go:noinline
func leakDeep(s *site) func() {
	c := make(chan struct{})
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		descend(100, c)
	}()
	return func() { close(c) }
}

//go:noinline
func descend(depth int, c chan struct{}) byte {
	var room [256]byte
	room[depth] = 1
	if depth > 0 {
		return descend(depth-1, c) + room[depth]
	}
	<-c
	return room[0]
}

//go:noinline
func leakContext(s *site) func() {
	ctx, cancel := context.WithCancel(context.Background())
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		<-ctx.Done()
	}()
	return cancel
}

// leakIOWait blocks in the network poller on a pipe; it takes two file descriptors each.
//
//go:noinline
func leakIOWait(s *site) func() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	s.starting()
	go func() {
		defer s.ending()
		defer r.Close()
		s.enter()
		if _, err := r.Read(make([]byte, 1)); err == nil {
			panic("a byte came from a pipe that nobody writes to")
		}
	}()
	return func() { w.Close() }
}

// leakAfterFunc has its goroutine started by the runtime's timers, on a system stack.
//
//go:noinline
func leakAfterFunc(s *site) func() {
	c := make(chan struct{})
	s.starting()
	time.AfterFunc(time.Microsecond, func() {
		defer s.ending()
		s.enter()
		<-c
	})
	return func() { close(c) }
}

// leakSpin never blocks: it is always running or runnable.
//
//go:noinline
func leakSpin(s *site) func() {
	over := new(atomic.Bool)
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		for !over.Load() {
		}
		runtime.KeepAlive(over)
	}()
	return func() { over.Store(true) }
}
