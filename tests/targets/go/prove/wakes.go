package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// What is reachable from the program's variables, in as many ways as there are.
var (
	globalChannel chan int
	globalMap     = map[int]chan int{}
	globalSlice   []chan int
	globalAny     any
	globalFunc    func()
	globalList    *holder
	globalArray   [3]struct {
		name string
		c    chan int
	}
	globalNested  = map[string]map[string]*holder{}
	globalSyncMap sync.Map
	globalAtomic  atomic.Pointer[holder]
	globalValue   atomic.Value
	globalPool    sync.Pool
	globalReflect reflect.Value
	globalPipe    *io.PipeWriter
	globalLock    sync.Mutex
	globalLocks   []*sync.Mutex
	globalRW      = new(sync.RWMutex)
	globalWait    = new(sync.WaitGroup)
	globalCond    = sync.NewCond(new(sync.Mutex))
	globalQueue   = make(chan chan int, 64)
	globalValues  = make(chan chan int)
	globalSignal  chan os.Signal
	globalBytes   []byte
	globalCancel  context.CancelFunc
	globalConn    net.Conn
	globalTimer   *time.Timer
	globalKeys    = map[chan int]int{}
	globalLarge   = map[int][40]chan int{}
	globalContext context.Context
	contextKeys   int
	globalInner   []*sync.Mutex
	lock          sync.Mutex
)

type contextKey int

// onWake has run called by the command wake. run must reach what it needs by the way that is tested.
func onWake(run func()) {
	lock.Lock()
	wakers = append(wakers, run)
	lock.Unlock()
}

func init() {
	wake("global", func(m *maker) {
		if globalChannel == nil {
			globalChannel = make(chan int)
			onWake(func() { close(globalChannel) })
		}
		m.start(func() { <-globalChannel })
	})
	wake("global map", func(m *maker) {
		c := make(chan int)
		globalMap[len(globalMap)] = c
		if len(globalMap) == 1 {
			onWake(func() {
				for _, c := range globalMap {
					close(c)
				}
			})
		}
		m.start(func() { <-c })
	})
	wake("global slice", func(m *maker) {
		c := make(chan int)
		globalSlice = append(globalSlice, c)
		if len(globalSlice) == 1 {
			onWake(func() {
				for _, c := range globalSlice {
					close(c)
				}
			})
		}
		m.start(func() { c <- 1 }) // woken by a panic: closed
	})
	wake("global interface", func(m *maker) {
		c := make(chan int)
		if globalAny == nil {
			globalAny = []any{}
			onWake(func() {
				for _, c := range globalAny.([]any) {
					close(c.(chan int))
				}
			})
		}
		globalAny = append(globalAny.([]any), c)
		m.start(func() { <-c })
	})
	wake("global function", func(m *maker) {
		c, before := make(chan int), globalFunc
		globalFunc = func() {
			close(c)
			if before != nil {
				before()
			}
		}
		if before == nil {
			onWake(func() { globalFunc() })
		}
		m.start(func() { <-c })
	})
	wake("global list", func(m *maker) {
		h := &holder{c: make(chan int)}
		if globalList == nil {
			onWake(func() {
				for h := globalList; h != nil; h = h.next {
					if h.c != nil {
						close(h.c)
					}
				}
			})
		}
		h.next = globalList
		globalList = h
		for i := 0; i < 100; i++ {
			globalList = &holder{next: globalList}
		}
		m.start(h.wait)
	})
	wake("global array", func(m *maker) {
		if globalArray[2].c == nil {
			globalArray[2].c = make(chan int)
			onWake(func() { close(globalArray[2].c) })
		}
		c := globalArray[2].c
		m.start(func() { <-c })
	})
	wake("global nested maps", func(m *maker) {
		h := &holder{c: make(chan int)}
		if globalNested["a"] == nil {
			globalNested["a"] = map[string]*holder{}
			onWake(func() {
				for _, h := range globalNested["a"] {
					close(h.c)
				}
			})
		}
		globalNested["a"][string(rune('a'+len(globalNested["a"])))] = h
		m.start(h.wait)
	})
	wake("global sync.Map", func(m *maker) {
		c := make(chan int)
		globalSyncMap.Store(c, 1)
		onWake(func() {
			globalSyncMap.Range(func(key, _ any) bool {
				globalSyncMap.Delete(key)
				close(key.(chan int))
				return true
			})
		})
		m.start(func() { <-c })
	})
	wake("global atomic pointer", func(m *maker) {
		h := &holder{c: make(chan int), next: globalAtomic.Load()}
		globalAtomic.Store(h)
		onWake(func() {
			if h := globalAtomic.Load(); h != nil {
				globalAtomic.Store(h.next)
				close(h.c)
			}
		})
		m.start(h.wait)
	})
	wake("global atomic value", func(m *maker) {
		c, _ := globalValue.Load().(chan int)
		if c == nil {
			c = make(chan int)
			globalValue.Store(c)
			onWake(func() { close(globalValue.Load().(chan int)) })
		}
		m.start(func() { <-c })
	})
	wake("sync.Pool", func(m *maker) {
		c := make(chan int)
		globalPool.Put(c)
		globalPool.Put(c)
		onWake(func() {
			for {
				c, ok := globalPool.Get().(chan int)
				if !ok {
					return
				}
				func() {
					defer func() { recover() }()
					close(c)
				}()
			}
		})
		// What one P put another may take; the runtime may drop what is put (in race builds only).
		m.start(func() { <-c })
	})
	wake("reflect.Value", func(m *maker) {
		if !globalReflect.IsValid() {
			globalReflect = reflect.ValueOf(make(chan int))
			onWake(func() { globalReflect.Close() })
		}
		c := globalReflect.Interface().(chan int)
		m.start(func() { <-c })
	})
	wake("held by one that waits", func(m *maker) {
		c := make(chan int)
		m.alive(func() { <-released; close(c) })
		m.start(func() { <-c })
	})
	wake("held by one that sleeps", func(m *maker) {
		c := make(chan int)
		m.alive(func() {
			for !isOver.Load() {
				time.Sleep(10 * time.Millisecond)
			}
			close(c)
		})
		m.start(func() { <-c })
	})
	wake("held by one in a system call", func(m *maker) {
		c := make(chan int)
		var ends [2]int
		if syscall.Pipe(ends[:]) != nil {
			panic("pipe")
		}
		reader, writer := ends[0], ends[1]
		onWake(func() { syscall.Write(writer, []byte{1}) })
		m.alive(func() { syscall.Read(reader, make([]byte, 1)); close(c) })
		m.start(func() { <-c })
	})
	wake("held by one that waits for the network", func(m *maker) {
		c := make(chan int)
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		onWake(func() { w.Write([]byte{1}) })
		m.alive(func() { r.Read(make([]byte, 1)); close(c) })
		m.start(func() { <-c })
	})
	wake("held by one that runs", func(m *maker) {
		c := make(chan int)
		m.alive(func() {
			for !isOver.Load() {
				for i := 0; i < 1000; i++ {
					runtime.Gosched()
				}
				time.Sleep(5 * time.Millisecond)
			}
			close(c)
		})
		m.start(func() { <-c })
	})
	wake("held in a deferred function", func(m *maker) {
		c := make(chan int)
		m.alive(func() { defer close(c); <-released })
		m.start(func() { <-c })
	})
	wake("held on a thread of its own", func(m *maker) {
		c := make(chan int)
		m.alive(func() { runtime.LockOSThread(); <-released; close(c) })
		m.start(func() { <-c })
	})
	wake("two steps away", func(m *maker) {
		a, b := make(chan int), make(chan int)
		m.alive(func() { <-released; close(b) })
		m.start(func() { <-b; close(a) })
		m.start(func() { <-a })
	})
	wake("ring with one alive", func(m *maker) {
		a, b := make(chan int), make(chan int)
		m.start(func() { <-a; b <- 1 })
		m.start(func() {
			select {
			case <-b:
			case <-released:
				a <- 1
				<-b
			}
		})
	})
	wake("select with one case in reach", func(m *maker) {
		c := make(chan int)
		m.start(func() {
			select {
			case <-c:
			case <-released:
			}
		})
	})
	wake("AfterFunc", func(m *maker) {
		c := make(chan int)
		var again func()
		again = func() {
			if isOver.Load() {
				close(c)
			} else {
				time.AfterFunc(30*time.Millisecond, again)
			}
		}
		time.AfterFunc(30*time.Millisecond, again)
		m.start(func() { <-c })
	})
	sleep("time.After", func(m *maker) {
		c := make(chan int)
		m.start(func() {
			select {
			case <-c:
			case <-time.After(time.Hour):
			}
		})
	})
	sleep("timer", func(m *maker) { t := time.NewTimer(time.Hour); m.start(func() { <-t.C }) })
	sleep("ticker", func(m *maker) {
		t := time.NewTicker(time.Hour)
		m.start(func() {
			for range t.C {
			}
		})
	})
	sleep("AfterFunc in an hour", func(m *maker) {
		c := make(chan int)
		time.AfterFunc(time.Hour, func() { close(c) })
		m.start(func() { <-c })
	})
	sleep("context with a deadline", func(m *maker) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		_ = cancel
		m.start(func() { <-ctx.Done() })
	})
	sleep("child of a context with a deadline", func(m *maker) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		child, stop := context.WithCancel(context.WithValue(ctx, "key", 1))
		_, _ = cancel, stop
		m.start(func() { <-child.Done() })
	})
	sleep("sleep", func(m *maker) { m.start(func() { time.Sleep(time.Hour) }) })
	wake("timer set anew", func(m *maker) {
		globalTimer = time.NewTimer(time.Hour)
		t := globalTimer
		onWake(func() { t.Reset(time.Millisecond) })
		m.start(func() { <-t.C })
	})
	wake("context of a parent in reach", func(m *maker) {
		ctx, cancel := context.WithCancel(context.Background())
		child, stop := context.WithCancel(ctx)
		_ = stop
		before := globalCancel
		globalCancel = func() {
			cancel()
			if before != nil {
				before()
			}
		}
		if before == nil {
			onWake(func() { globalCancel() })
		}
		m.start(func() { <-child.Done() })
	})
	wake("finalizer's function", func(m *maker) {
		c := make(chan int)
		guard := new(holder)
		runtime.SetFinalizer(guard, func(*holder) { close(c) })
		m.start(func() { <-c })
	})
	wake("finalizer's object", func(m *maker) {
		h := &holder{next: &holder{c: make(chan int)}}
		runtime.SetFinalizer(h, func(h *holder) { close(h.next.c) })
		c := h.next.c
		m.start(func() { <-c })
	})
	wake("finalizer after a finalizer", func(m *maker) {
		last := &holder{c: make(chan int)}
		first := &holder{next: last}
		runtime.SetFinalizer(last, func(h *holder) { close(h.c) })
		runtime.SetFinalizer(first, func(*holder) {})
		c := last.c
		m.start(func() { <-c })
	})
	wake("key of a map", func(m *maker) {
		c := make(chan int)
		globalKeys[c] = len(globalKeys)
		if len(globalKeys) == 1 {
			onWake(func() {
				for c := range globalKeys {
					close(c)
				}
			})
		}
		m.start(func() { <-c })
	})
	wake("large value of a map", func(m *maker) {
		var large [40]chan int
		large[37] = make(chan int)
		globalLarge[len(globalLarge)] = large
		if len(globalLarge) == 1 {
			onWake(func() {
				for _, large := range globalLarge {
					close(large[37])
				}
			})
		}
		c := large[37]
		m.start(func() { <-c })
	})
	wake("value of a context", func(m *maker) {
		c := make(chan int)
		first := globalContext == nil
		if first {
			globalContext = context.Background()
			onWake(func() {
				for i := 0; ; i++ {
					c, ok := globalContext.Value(contextKey(i)).(chan int)
					if !ok {
						break
					}
					close(c)
				}
			})
		}
		globalContext = context.WithValue(globalContext, contextKey(contextKeys), c)
		contextKeys++
		m.start(func() { <-c })
	})
	wake("held in a panic", func(m *maker) {
		c := make(chan int)
		m.alive(func() {
			defer func() {
				<-released
				close(recover().(chan int))
			}()
			panic(c)
		})
		m.start(func() { <-c })
	})
	wake("global pointer into the middle", func(m *maker) {
		// The only pointer leads into the middle of the object.
		h := &holder{c: make(chan int)}
		globalInner = append(globalInner, &h.lock)
		if len(globalInner) == 1 {
			onWake(func() {
				for _, inner := range globalInner {
					at := unsafe.Pointer(uintptr(unsafe.Pointer(inner)) - unsafe.Offsetof(holder{}.lock))
					close((*holder)(at).c)
				}
			})
		}
		c := h.c
		m.start(func() { <-c })
	})
	wake("signal", func(m *maker) {
		if globalSignal == nil {
			onWake(func() { syscall.Kill(os.Getpid(), syscall.SIGUSR1) })
		}
		c := make(chan os.Signal, 1)
		globalSignal = c
		signal.Notify(c, syscall.SIGUSR1)
		globalSignal = make(chan os.Signal)
		m.start(func() { <-c })
	})
	wake("mutex of a holder", func(m *maker) {
		h := new(holder)
		h.lock.Lock()
		m.alive(func() { <-released; h.lock.Unlock() })
		m.start(func() { h.lock.Lock(); h.lock.Unlock() })
	})
	wake("global mutex", func(m *maker) {
		if globalLock.TryLock() {
			onWake(func() { globalLock.Unlock() })
		}
		m.start(func() { globalLock.Lock(); globalLock.Unlock() })
	})
	wake("mutexes in a slice", func(m *maker) {
		l := new(sync.Mutex)
		l.Lock()
		globalLocks = append(globalLocks, l)
		if len(globalLocks) == 1 {
			onWake(func() {
				for _, l := range globalLocks {
					l.Unlock()
				}
			})
		}
		m.start(func() { l.Lock() })
	})
	wake("rwmutex", func(m *maker) {
		l := globalRW
		if l.TryLock() {
			onWake(func() { globalRW.Unlock() })
		}
		m.start(func() { l.RLock(); l.RUnlock() })
	})
	wake("waitgroup", func(m *maker) {
		w := globalWait
		w.Add(1)
		onWake(func() { globalWait.Done() })
		m.start(func() { w.Wait() })
	})
	wake("waitgroup of a worker", func(m *maker) {
		w := new(sync.WaitGroup)
		w.Add(1)
		m.alive(func() { <-released; w.Done() })
		m.start(func() { w.Wait() })
	})
	wake("cond", func(m *maker) {
		c := globalCond
		onWake(func() { globalCond.Broadcast() })
		m.start(func() { c.L.Lock(); c.Wait(); c.L.Unlock() })
	})
	wake("cond of a signaller", func(m *maker) {
		c := sync.NewCond(new(sync.Mutex))
		m.alive(func() { <-released; c.Broadcast() })
		for i := 0; i < 3; i++ {
			m.start(func() { c.L.Lock(); c.Wait(); c.L.Unlock() })
		}
	})
	wake("in a channel's buffer", func(m *maker) {
		c := make(chan int)
		globalQueue <- c
		onWake(func() { close(<-globalQueue) })
		m.start(func() { <-c })
	})
	wake("in a value that is being sent", func(m *maker) {
		onWake(func() { close(<-globalValues) })
		inside := make(chan int)
		m.alive(func() { globalValues <- inside })
		m.start(func() { <-inside })
	})
	wake("other end of net.Pipe", func(m *maker) {
		a, b := net.Pipe()
		before := globalConn
		globalConn = pair{b, before}
		if before == nil {
			onWake(func() { globalConn.Close() })
		}
		m.start(func() { a.Read(make([]byte, 1)) })
	})
	wake("other end of io.Pipe", func(m *maker) {
		r, w := io.Pipe()
		globalPipe = w
		onWake(func() { w.Close() })
		m.start(func() { r.Read(make([]byte, 1)) })
	})
	hidden("memory mapped by hand", func(m *maker) {
		bytes, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			panic(err)
		}
		h := &holder{c: make(chan int)}
		place := (*unsafe.Pointer)(unsafe.Pointer(&bytes[8192]))
		// Written as a number: nothing of this is in a register or on a stack of somebody alive.
		*(*uintptr)(unsafe.Pointer(place)) = uintptr(unsafe.Pointer(h))
		globalBytes = bytes
		onWake(func() { close((*holder)(*(*unsafe.Pointer)(unsafe.Pointer(&bytes[8192]))).c) })
		m.start(h.wait)
	})
}

// pair closes two connections.
type pair struct {
	net.Conn
	other net.Conn
}

func (p pair) Close() error {
	if p.other != nil {
		p.other.Close()
	}
	return p.Conn.Close()
}
