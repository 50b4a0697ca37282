// Command prove blocks goroutines in many ways, and knows of each whether anything alive can ever wake it.
//
// One line in, one line out, on stdin and stdout, as its neighbour truth. README.md lists the commands.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fate is what is true of a goroutine.
type fate int

const (
	leaks  fate = iota // nothing alive can ever wake it
	wakes              // the command wake wakes it, by the only way there is
	sleeps             // something will wake it, in an hour
	weakly             // wakes, by a way of which the runtime's own proof knows nothing
)

// shape makes goroutines of one kind. It runs on a goroutine of its own, so that no stack keeps what it made.
type shape struct {
	name string
	fate fate
	make func(*maker)
}

// shapes is filled by init functions.
var shapes []shape

func leak(name string, make func(*maker))  { shapes = append(shapes, shape{name, leaks, make}) }
func wake(name string, make func(*maker))  { shapes = append(shapes, shape{name, wakes, make}) }
func sleep(name string, make func(*maker)) { shapes = append(shapes, shape{name, sleeps, make}) }

// hidden is wake, by a way that the collector and so the runtime's own proof do not see.
func hidden(name string, make func(*maker)) { shapes = append(shapes, shape{name, weakly, make}) }

// maker starts the goroutines of a shape.
type maker struct {
	name string
	fate fate
}

// one is a goroutine in the book.
type one struct {
	ID    uint64 `json:"id"`
	Shape string `json:"shape"`
	Leaks bool   `json:"leaks"`
	Weak  bool   `json:"weak,omitempty"`
	fate  fate
	ended bool
}

var (
	bookLock sync.Mutex
	book     = map[uint64]*one{}
	pending  atomic.Int64

	// released is closed by wake, and the flag is set before.
	released = make(chan struct{})
	isOver   atomic.Bool
)

// start starts a goroutine whose fate is the shape's.
func (m *maker) start(run func()) { begin(m.name, m.fate, run) }

// alive starts a goroutine that is not to be proven, whatever the shape: a holder of something.
func (m *maker) alive(run func()) { begin(m.name+" holder", sleeps, run) }

//go:noinline
func begin(name string, fate fate, run func()) {
	pending.Add(1)
	go func() {
		id := goid()
		entry := &one{ID: id, Shape: name, Leaks: fate == leaks, Weak: fate == weakly, fate: fate}
		bookLock.Lock()
		book[id] = entry
		bookLock.Unlock()
		defer func() {
			recover()
			bookLock.Lock()
			entry.ended = true
			bookLock.Unlock()
		}()
		pending.Add(-1)
		run()
	}()
}

// goid is the number of this goroutine, as its own traceback has it.
//
//go:noinline
func goid() uint64 {
	var buffer [64]byte
	text := strings.TrimPrefix(string(buffer[:runtime.Stack(buffer[:], false)]), "goroutine ")
	number, _, _ := strings.Cut(text, " ")
	id, _ := strconv.ParseUint(number, 10, 64)
	return id
}

// makeAll runs every shape n times and returns when all goroutines are parked.
func makeAll(n int, only string) {
	for _, s := range shapes {
		if only != "" && s.name != only {
			continue
		}
		for i := 0; i < n; i++ {
			done := make(chan struct{})
			go func(s shape) {
				defer close(done)
				s.make(&maker{s.name, s.fate})
			}(s)
			<-done
		}
	}
	settle()
}

// settle waits until every goroutine of the book has come to where it blocks.
func settle() {
	for still, last := 0, ""; still < 5; {
		time.Sleep(20 * time.Millisecond)
		now := states()
		if now == last && pending.Load() == 0 {
			still++
		} else {
			still, last = 0, now
		}
	}
}

// states are the states of all goroutines of the book that are to leak or to be woken by the command.
func states() string {
	var text strings.Builder
	for id, state := range dump() {
		bookLock.Lock()
		entry := book[id]
		bookLock.Unlock()
		if entry != nil && entry.fate != sleeps {
			fmt.Fprintln(&text, len(state), id)
			if strings.HasPrefix(state, "run") {
				fmt.Fprintln(&text, time.Now())
			}
		}
	}
	lines := strings.Split(text.String(), "\n")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// dump has the state of every goroutine.
func dump() map[uint64]string {
	buffer := make([]byte, 1<<16)
	for {
		n := runtime.Stack(buffer, true)
		if n < len(buffer) {
			buffer = buffer[:n]
			break
		}
		buffer = make([]byte, 2*len(buffer))
	}
	found := map[uint64]string{}
	for _, block := range bytes.Split(buffer, []byte("\n\n")) {
		text, ok := cutPrefix(string(block), "goroutine ")
		if !ok {
			continue
		}
		number, rest, _ := strings.Cut(text, " [")
		state, _, _ := strings.Cut(rest, "]")
		state, _, _ = strings.Cut(state, ",")
		if id, err := strconv.ParseUint(number, 10, 64); err == nil {
			found[id] = state
		}
	}
	return found
}

// truth is the book of those that have not ended.
func truth() []*one {
	bookLock.Lock()
	defer bookLock.Unlock()
	var all []*one
	for _, entry := range book {
		if !entry.ended {
			all = append(all, entry)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all
}

// wakeAll lets go of everything that can be let go of, and names those that do not end.
func wakeAll() error {
	isOver.Store(true)
	close(released)
	for _, run := range wakers {
		run()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
		var left, gone []string
		bookLock.Lock()
		for _, entry := range book {
			if (entry.fate == wakes || entry.fate == weakly) && !entry.ended {
				left = append(left, entry.Shape)
			}
			if entry.fate == leaks && entry.ended {
				gone = append(gone, entry.Shape)
			}
		}
		bookLock.Unlock()
		if len(gone) > 0 {
			return fmt.Errorf("were to leak and ended: %v", gone)
		}
		if len(left) == 0 {
			settle()
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("were to be woken and are not: %v", left)
		}
	}
}

// wakers do what wake does besides closing released.
var wakers []func()

// runtimeLeaks are the goroutines that the runtime's own profile has, by number.
func runtimeLeaks() ([]uint64, error) {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		return nil, fmt.Errorf("this runtime has no profile goroutineleak")
	}
	var buffer bytes.Buffer
	if err := profile.WriteTo(&buffer, 2); err != nil {
		return nil, err
	}
	ids := []uint64{}
	for _, block := range strings.Split(buffer.String(), "\n\n") {
		header, _, _ := strings.Cut(block, "\n")
		if text := strings.TrimPrefix(header, "goroutine "); text != header && strings.Contains(header, "(leaked)") {
			number, _, _ := strings.Cut(text, " ")
			if id, err := strconv.ParseUint(number, 10, 64); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

func main() {
	// The sync.Pool and the finalizers of the book must not be emptied before their time.
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(2)
	answer := func(format string, arguments ...any) { fmt.Printf(format+"\n", arguments...) }
	answer(`ready {"pid":%d,"version":%q}`, os.Getpid(), runtime.Version())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		number, text := 1, ""
		if len(words) > 1 {
			if n, err := strconv.Atoi(words[1]); err == nil {
				number = n
			}
		}
		if len(words) > 2 {
			text = strings.Join(words[2:], " ")
		}
		var value any = struct{}{}
		var err error
		switch words[0] {
		case "make":
			makeAll(number, text)
		case "truth":
			value = truth()
		case "shapes":
			counts := map[string]int{}
			for _, s := range shapes {
				counts[[]string{"leaks", "wakes", "sleeps", "wakes"}[s.fate]]++
			}
			value = counts
		case "wake":
			err = wakeAll()
		case "gc":
			runtime.GC()
			runtime.GC()
		case "leaks":
			value, err = runtimeLeaks()
		case "heap":
			grow(number)
		case "move":
			move(number)
		case "spawn":
			spawnMany(number)
		case "disguise":
			disguise(number)
		case "betray":
			betray()
		case "serve":
			err = serve()
		case "exit":
			os.Exit(0)
		default:
			err = fmt.Errorf("unknown command %q", words[0])
		}
		if err != nil {
			answer("err %v", err)
			continue
		}
		form, _ := json.Marshal(value)
		answer("ok %s", form)
	}
}

// cutPrefix is strings.CutPrefix, which Go 1.19 does not have.
func cutPrefix(text, prefix string) (string, bool) {
	return strings.TrimPrefix(text, prefix), strings.HasPrefix(text, prefix)
}
