package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

type holder struct {
	padding [5]uintptr
	c       chan int
	lock    sync.Mutex
	next    *holder
}

//go:noinline
func deep(n int, c chan int) int {
	var room [64]int
	if n == 0 {
		return <-c
	}
	room[n%64] = deep(n-1, c)
	return room[n%64] + n
}

func receive[T any](c chan T) T { return <-c }

func (h *holder) wait() { <-h.c }

func init() {
	leak("receive", func(m *maker) { c := make(chan int); m.start(func() { <-c }) })
	leak("send", func(m *maker) { c := make(chan int); m.start(func() { c <- 1 }) })
	leak("send to a full buffer", func(m *maker) {
		c := make(chan int, 4)
		for i := 0; i < 4; i++ {
			c <- i
		}
		m.start(func() { c <- 4 })
	})
	leak("send of a pointer", func(m *maker) { c := make(chan *int); m.start(func() { c <- new(int) }) })
	leak("range", func(m *maker) {
		c := make(chan string, 2)
		m.start(func() {
			for range c {
			}
		})
	})
	leak("comma ok", func(m *maker) {
		c := make(chan error)
		m.start(func() {
			if _, ok := <-c; ok {
				return
			}
		})
	})
	leak("select of two", func(m *maker) {
		a, b := make(chan int), make(chan int)
		m.start(func() {
			select {
			case <-a:
			case <-b:
			}
		})
	})
	leak("select of send and receive", func(m *maker) {
		a, b := make(chan int), make(chan string, 1)
		b <- "full"
		m.start(func() {
			select {
			case <-a:
			case b <- "x":
			}
		})
	})
	leak("select of many", func(m *maker) {
		var c [12]chan int
		for i := range c {
			c[i] = make(chan int)
		}
		m.start(func() {
			select {
			case <-c[0]:
			case <-c[1]:
			case c[2] <- 1:
			case <-c[3]:
			case <-c[4]:
			case <-c[5]:
			case c[6] <- 1:
			case <-c[7]:
			case <-c[8]:
			case <-c[9]:
			case <-c[10]:
			case <-c[11]:
			}
		})
	})
	leak("select of one twice", func(m *maker) {
		c := make(chan int)
		m.start(func() {
			select {
			case <-c:
			case v := <-c:
				_ = v
			}
		})
	})
	leak("select with a nil case", func(m *maker) {
		c := make(chan int)
		var none chan int
		m.start(func() {
			select {
			case <-c:
			case <-none:
			}
		})
	})
	leak("select of nil cases", func(m *maker) {
		var a, b chan int
		m.start(func() {
			select {
			case <-a:
			case b <- 1:
			}
		})
	})
	leak("receive from nil", func(m *maker) { var c chan int; m.start(func() { <-c }) })
	leak("send to nil", func(m *maker) { var c chan int; m.start(func() { c <- 1 }) })
	leak("select without cases", func(m *maker) { m.start(func() { select {} }) })
	leak("mutex", func(m *maker) { l := new(sync.Mutex); l.Lock(); m.start(func() { l.Lock() }) })
	leak("mutex twice", func(m *maker) {
		h := &holder{c: make(chan int)}
		m.start(func() { h.lock.Lock(); h.lock.Lock(); <-h.c })
	})
	leak("mutexes crosswise", func(m *maker) {
		a, b := &holder{}, &holder{}
		var both sync.WaitGroup
		both.Add(2)
		meet := &both
		m.start(func() { a.lock.Lock(); meet.Done(); meet.Wait(); b.lock.Lock() })
		m.start(func() { b.lock.Lock(); meet.Done(); meet.Wait(); a.lock.Lock() })
	})
	leak("mutex with five waiters", func(m *maker) {
		h := &holder{}
		h.lock.Lock()
		for i := 0; i < 5; i++ {
			m.start(func() { h.lock.Lock() })
		}
	})
	leak("rwmutex readers", func(m *maker) {
		l := new(sync.RWMutex)
		l.Lock()
		m.start(func() { l.RLock() })
		m.start(func() { l.RLock() })
	})
	leak("rwmutex writer", func(m *maker) { l := new(sync.RWMutex); l.RLock(); m.start(func() { l.Lock() }) })
	leak("rwmutex upgrade", func(m *maker) { l := new(sync.RWMutex); m.start(func() { l.RLock(); l.Lock() }) })
	leak("waitgroup", func(m *maker) { w := new(sync.WaitGroup); w.Add(1); m.start(func() { w.Wait() }) })
	leak("waitgroup with three waiters", func(m *maker) {
		w := new(sync.WaitGroup)
		w.Add(2)
		for i := 0; i < 3; i++ {
			m.start(func() { w.Wait() })
		}
	})
	leak("waitgroup of the stuck", func(m *maker) {
		w := new(sync.WaitGroup)
		c := make(chan int)
		w.Add(2)
		m.start(func() { defer w.Done(); <-c })
		m.start(func() { defer w.Done(); <-c })
		m.start(func() { w.Wait(); close(c) })
	})
	leak("cond", func(m *maker) {
		c := sync.NewCond(new(sync.Mutex))
		m.start(func() { c.L.Lock(); c.Wait() })
	})
	leak("cond with three waiters", func(m *maker) {
		c := sync.NewCond(new(sync.Mutex))
		for i := 0; i < 3; i++ {
			m.start(func() { c.L.Lock(); c.Wait() })
		}
	})
	leak("once that does not end", func(m *maker) {
		once, c := new(sync.Once), make(chan int)
		inside := make(chan struct{})
		m.start(func() { once.Do(func() { close(inside); <-c }) })
		<-inside
		m.start(func() { once.Do(func() {}) })
	})
	leak("chain", func(m *maker) {
		a, b, c := make(chan int), make(chan int), make(chan int)
		m.start(func() { <-a })
		m.start(func() { <-b; a <- 1 })
		m.start(func() { <-c; b <- 1 })
	})
	leak("ring", func(m *maker) {
		var c [5]chan int
		for i := range c {
			c[i] = make(chan int)
		}
		for i := range c {
			from, to := c[i], c[(i+1)%len(c)]
			m.start(func() { to <- <-from })
		}
	})
	leak("early return", func(m *maker) {
		results := make(chan int)
		for i := 0; i < 3; i++ {
			m.start(func() { results <- 1 })
		}
	})
	leak("pool without close", func(m *maker) {
		jobs := make(chan func(), 3)
		for i := 0; i < 4; i++ {
			m.start(func() {
				for job := range jobs {
					job()
				}
			})
		}
	})
	leak("context without cancel", func(m *maker) {
		ctx, cancel := context.WithCancel(context.Background())
		_ = cancel
		m.start(func() { <-ctx.Done() })
	})
	leak("context tree without cancel", func(m *maker) {
		ctx, cancel := context.WithCancel(context.Background())
		child, stop := context.WithCancel(context.WithValue(ctx, "key", 1))
		_, _ = cancel, stop
		m.start(func() { <-child.Done() })
		m.start(func() { <-ctx.Done() })
	})
	leak("context or channel", func(m *maker) {
		ctx, cancel := context.WithCancel(context.Background())
		_ = cancel
		c := make(chan int)
		m.start(func() {
			select {
			case <-ctx.Done():
			case <-c:
			}
		})
	})
	leak("generator", func(m *maker) {
		numbers := make(chan int)
		m.start(func() {
			for i := 0; ; i++ {
				numbers <- i
			}
		})
		<-numbers
	})
	leak("fan-in", func(m *maker) {
		into := make(chan int)
		for i := 0; i < 3; i++ {
			i := i
			m.start(func() { into <- i; into <- i })
		}
		<-into
	})
	leak("pipeline", func(m *maker) {
		first := make(chan int)
		from := first
		for i := 0; i < 4; i++ {
			to := make(chan int)
			in := from
			m.start(func() {
				for v := range in {
					to <- v
				}
			})
			from = to
		}
	})
	leak("stopped timer", func(m *maker) {
		t := time.NewTimer(time.Hour)
		t.Stop()
		c := t.C
		m.start(func() { <-c })
	})
	leak("stopped ticker", func(m *maker) {
		t := time.NewTicker(time.Hour)
		t.Stop()
		m.start(func() {
			for range t.C {
			}
		})
	})
	leak("semaphore of a channel", func(m *maker) {
		s := make(chan struct{}, 2)
		s <- struct{}{}
		s <- struct{}{}
		m.start(func() { s <- struct{}{}; <-s })
	})
	leak("channel of channels", func(m *maker) {
		requests := make(chan chan int, 1)
		reply := make(chan int)
		requests <- reply
		m.start(func() { <-reply })
		m.start(func() { requests <- reply })
	})
	leak("in a local map", func(m *maker) {
		all := map[string]chan int{"a": make(chan int)}
		m.start(func() { <-all["a"] })
	})
	leak("in a local slice", func(m *maker) {
		all := []chan int{make(chan int), make(chan int)}
		m.start(func() { <-all[1] })
	})
	leak("in an interface", func(m *maker) {
		var any interface{} = make(chan int)
		m.start(func() { <-any.(chan int) })
	})
	leak("in a local sync.Map", func(m *maker) {
		all := new(sync.Map)
		all.Store(1, make(chan int))
		m.start(func() { c, _ := all.Load(1); <-c.(chan int) })
	})
	leak("in a local atomic.Value", func(m *maker) {
		v := new(atomic.Value)
		v.Store(make(chan int))
		m.start(func() { <-v.Load().(chan int) })
	})
	leak("method value", func(m *maker) {
		h := &holder{c: make(chan int)}
		m.start(h.wait)
	})
	leak("generic", func(m *maker) { c := make(chan [3]string); m.start(func() { receive(c) }) })
	leak("deep stack", func(m *maker) { c := make(chan int); m.start(func() { deep(200, c) }) })
	leak("linked list", func(m *maker) {
		list := &holder{c: make(chan int)}
		for i := 0; i < 50; i++ {
			list = &holder{next: list}
		}
		m.start(func() {
			last := list
			for last.next != nil {
				last = last.next
			}
			<-last.c
		})
	})
	leak("in a deferred function", func(m *maker) { c := make(chan int); m.start(func() { defer func() { <-c }() }) })
	leak("while panicking", func(m *maker) {
		c := make(chan int)
		m.start(func() { defer func() { <-c }(); panic("expected") })
	})
	leak("after Goexit", func(m *maker) {
		c := make(chan int)
		m.start(func() { defer func() { <-c }(); runtime.Goexit() })
	})
	leak("locked to its thread", func(m *maker) {
		c := make(chan int)
		m.start(func() { runtime.LockOSThread(); <-c })
	})
	leak("net.Pipe", func(m *maker) {
		a, b := net.Pipe()
		_ = b
		m.start(func() { a.Read(make([]byte, 1)) })
	})
	leak("io.Pipe reader", func(m *maker) {
		r, w := io.Pipe()
		_ = w
		m.start(func() { r.Read(make([]byte, 1)) })
	})
	leak("io.Pipe writer", func(m *maker) {
		r, w := io.Pipe()
		_ = r
		m.start(func() { w.Write(make([]byte, 1)) })
	})
	leak("bufio over io.Pipe", func(m *maker) {
		r, w := io.Pipe()
		_ = w
		m.start(func() { bufio.NewReader(r).ReadString('\n') })
	})
	leak("answer after a timeout", func(m *maker) {
		answer := make(chan int)
		m.start(func() { time.Sleep(5 * time.Millisecond); answer <- 1 })
		select {
		case <-answer:
		case <-time.After(time.Millisecond):
		}
	})
	leak("with labels", func(m *maker) {
		c := make(chan int)
		m.start(func() {
			pprof.Do(context.Background(), pprof.Labels("kind", "leak"), func(context.Context) { <-c })
		})
	})
	leak("nested", func(m *maker) {
		c := make(chan int)
		m.start(func() { m.start(func() { m.start(func() { <-c }); <-c }); <-c })
	})
	leak("double-checked", func(m *maker) {
		h := &holder{c: make(chan int, 1)}
		m.start(func() { h.c <- 1; h.lock.Lock(); h.c <- 2 })
	})
	leak("barrier that is never full", func(m *maker) {
		gate, lock := make(chan struct{}), new(sync.Mutex)
		missing := 3
		for i := 0; i < 2; i++ {
			m.start(func() {
				lock.Lock()
				missing--
				if missing == 0 {
					close(gate)
				}
				lock.Unlock()
				<-gate
			})
		}
	})
	leak("single flight", func(m *maker) {
		type call struct {
			done  sync.WaitGroup
			value int
		}
		flight := new(call)
		flight.done.Add(1)
		for i := 0; i < 3; i++ {
			m.start(func() { flight.done.Wait(); _ = flight.value })
		}
	})
	leak("lost broadcast", func(m *maker) {
		c := sync.NewCond(new(sync.RWMutex))
		c.Broadcast()
		m.start(func() { c.L.Lock(); c.Wait() })
	})
	leak("struct of channels", func(m *maker) {
		type pair struct{ in, out chan int }
		p := &pair{make(chan int), make(chan int)}
		m.start(func() { p.out <- <-p.in })
	})
	leak("interior pointer", func(m *maker) {
		all := new([16]holder)
		h := &all[7]
		h.c = make(chan int)
		m.start(func() { h.wait() })
	})
	leak("large buffer", func(m *maker) {
		c := make(chan [1024]byte, 64)
		m.start(func() { <-c })
	})
	leak("zero-sized elements", func(m *maker) { c := make(chan struct{}); m.start(func() { <-c }) })
}
