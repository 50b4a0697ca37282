package main

import (
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// node is a node of the tree that grow makes.
type node struct {
	left, right *node
	data        []byte
	text        string
	any         any
}

var forest []*node

// grow makes a heap of so many megabytes: trees with strings, slices and interfaces.
func grow(megabytes int) {
	for made := 0; made < megabytes<<20; {
		root := &node{}
		for i := 0; i < 1000; i++ {
			n := &node{data: make([]byte, 64), text: string(make([]byte, 40)), any: &node{}}
			for at := root; ; {
				next := &at.left
				if i&(1<<uint(i%7)) != 0 || at.right == nil {
					next = &at.right
				}
				if *next == nil {
					*next = n
					break
				}
				at = *next
				if at.left != nil && at.right != nil && i%3 == 0 {
					at = at.left
				}
			}
			made += 64 + 48 + 2*80
		}
		forest = append(forest, root)
	}
}

// spawnMany starts so many goroutines that leak on channels of their own, and leaves them.
func spawnMany(n int) {
	var parked sync.WaitGroup
	parked.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			c := make(chan int)
			parked.Done()
			<-c
		}()
	}
	parked.Wait()
	time.Sleep(50 * time.Millisecond)
}

// disguised are addresses of channels with all bits turned: Go forbids that, and no proof can see it.
var disguised []uintptr

// disguise blocks n goroutines on channels whose only other pointers are in disguise: they look like leaks.
func disguise(n int) {
	var parked sync.WaitGroup
	parked.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			c := make(chan int)
			disguised = append(disguised, ^*(*uintptr)(unsafe.Pointer(&c)))
			go waitInDisguise(c, &parked)
		}()
		time.Sleep(time.Millisecond)
	}
	parked.Wait()
	time.Sleep(50 * time.Millisecond)
}

//go:noinline
func waitInDisguise(c chan int, parked *sync.WaitGroup) {
	parked.Done()
	<-c
}

// betray wakes them: whoever proved that nothing can was wrong, and has to notice.
func betray() {
	for _, address := range disguised {
		address = ^address
		close(*(*chan int)(unsafe.Pointer(&address)))
	}
	disguised = nil
	time.Sleep(50 * time.Millisecond)
}

// serve answers each byte with 4 KiB, by a goroutine of its own, with a collection now and then: the load of the benches.
func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	debug.SetGCPercent(100)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				request := make([]byte, 1)
				for {
					if _, err := connection.Read(request); err != nil {
						return
					}
					answers := make(chan []byte)
					go func() { answers <- make([]byte, 4096) }()
					if _, err := connection.Write(<-answers); err != nil {
						return
					}
				}
			}()
		}
	}()
	return os.WriteFile(os.Getenv("PROVE_ADDRESS"), []byte(listener.Addr().String()), 0o644)
}

// parcel is what moves: whoever has it can wake the goroutine that waits for it.
type parcel struct {
	c     chan struct{}
	again *parcel
}

// woken counts parcels that were delivered.
var woken atomic.Int64

type place struct {
	one   atomic.Pointer[parcel]
	any   atomic.Value
	mutex sync.Mutex
	table map[int]*parcel
	plain unsafe.Pointer
	pool  sync.Pool
	run   func() *parcel
	iface any
}

// move has parcels go from hand to hand at full speed for so many seconds, each the only way to wake a goroutine, while
// the collector runs; then it opens them all.
func move(seconds int) {
	debug.SetGCPercent(50)
	var all sync.WaitGroup
	over := make(chan struct{})
	var isDone atomic.Bool
	const parcels = 64
	hands := make([]chan *parcel, 8)
	for i := range hands {
		hands[i] = make(chan *parcel, parcels)
	}
	places := make([]*place, 8)
	for i := range places {
		places[i] = &place{table: map[int]*parcel{}}
		places[i].any.Store((*parcel)(nil))
	}
	for i := 0; i < parcels; i++ {
		all.Add(1)
		p := &parcel{c: make(chan struct{})}
		go func(c chan struct{}) {
			<-c
			woken.Add(1)
			all.Done()
		}(p.c)
		hands[i%len(hands)] <- p
	}
	var movers sync.WaitGroup
	for i := range hands {
		i := i
		movers.Add(1)
		go func() {
			defer movers.Done()
			at := places[i]
			to := hands[(i+1)%len(hands)]
			for turn := 0; !isDone.Load(); turn++ {
				var p *parcel
				select {
				case p = <-hands[i]:
				case <-over:
					return
				}
				p = at.pass(turn, p, to)
				if p != nil {
					to <- p
				}
			}
		}()
	}
	churn := make(chan struct{})
	go func() {
		keep := [64][]byte{}
		for i := 0; ; i++ {
			select {
			case <-churn:
				return
			default:
				keep[i%64] = make([]byte, 1+i%5000)
				if i%2000 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
	}()
	time.Sleep(time.Duration(seconds) * time.Second)
	isDone.Store(true)
	time.Sleep(50 * time.Millisecond)
	close(over)
	movers.Wait()
	close(churn)
	runtime.GC()
	open := func(p *parcel) {
		if p != nil {
			close(p.c)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for woken.Load() < parcels && time.Now().Before(deadline) {
		for _, hand := range hands {
			select {
			case p := <-hand:
				open(p)
			default:
			}
		}
		time.Sleep(time.Millisecond)
		runtime.GC()
	}
	if woken.Load() < parcels {
		panic("a parcel was lost")
	}
	woken.Store(0)
	debug.SetGCPercent(-1)
}

// pass has a parcel in one more place for a moment: nowhere else is a pointer to it then. nil: it goes on by itself.
//
//go:noinline
func (at *place) pass(turn int, p *parcel, to chan *parcel) *parcel {
	switch turn % 12 {
	case 0:
		at.one.Store(p)
		return at.one.Swap(nil)
	case 1:
		at.any.Store(p)
		return at.any.Swap((*parcel)(nil)).(*parcel)
	case 2:
		at.table[turn] = p
		q := at.table[turn]
		delete(at.table, turn)
		return q
	case 3:
		at.plain = unsafe.Pointer(p)
		q := (*parcel)(at.plain)
		at.plain = nil
		return q
	case 4:
		at.run = func() *parcel { return p }
		q := at.run()
		at.run = nil
		return q
	case 5:
		at.iface = p
		q := at.iface.(*parcel)
		at.iface = nil
		return q
	case 6:
		// A collection may empty the pool, and what one P has put another may not find: then the finalizer sends it on.
		box := &parcel{again: p}
		runtime.SetFinalizer(box, func(box *parcel) { to <- box.again })
		at.pool.Put(box)
		got, _ := at.pool.Get().(*parcel)
		if got == nil {
			return nil
		}
		runtime.SetFinalizer(got, nil)
		return got.again
	case 7:
		if turn%600 == 7 {
			time.AfterFunc(time.Millisecond, func() { to <- p })
			return nil
		}
		return p
	case 8:
		if turn%1200 == 8 {
			runtime.SetFinalizer(&parcel{again: p}, func(q *parcel) { to <- q.again })
			return nil
		}
		return p
	case 9:
		box := &parcel{again: &parcel{again: p}}
		return box.again.again
	case 10:
		c := make(chan *parcel)
		go func() { c <- p }()
		return <-c
	default:
		return deeper(20, p)
	}
}

// deeper has it on the stack only, in a frame that goes away.
//
//go:noinline
func deeper(n int, p *parcel) *parcel {
	if n == 0 {
		runtime.Gosched()
		return p
	}
	return deeper(n-1, p)
}
