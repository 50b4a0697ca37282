package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// site is one go statement of this program (or one place of the standard library that starts
// goroutines on its behalf) and what has passed through it.
type site struct {
	function atomic.Value // string: the name that the runtime prints after "created by"
	started  atomic.Int64 // raised before the go statement
	entered  atomic.Int64 // raised by the goroutine's first line; not by the short ones of storms
	ended    atomic.Int64 // raised by the goroutine's last line, shortly before the runtime takes it away
}

var book struct {
	sync.Mutex
	sites []*site
}

func newSite() *site {
	s := &site{}
	book.Lock()
	book.sites = append(book.sites, s)
	book.Unlock()
	return s
}

func sites() []*site {
	book.Lock()
	defer book.Unlock()
	return append([]*site(nil), book.sites...)
}

// starting is called just before the go statement of this site.
func (s *site) starting() { s.started.Add(1) }

// enter is the first line of a goroutine of this site.
func (s *site) enter() {
	s.learn()
	s.entered.Add(1)
}

// ending is deferred by every goroutine, so that it counts after a panic or Goexit, too.
func (s *site) ending() { s.ended.Add(1) }

func (s *site) live() int64 { return s.started.Load() - s.ended.Load() }

// learn asks the runtime, once, who it says created this goroutine. Inlining and the names of closures
// and generic functions differ between versions of Go, so no such name is written down here.
func (s *site) learn() {
	if s.function.Load() == nil {
		s.function.Store(createdBy())
	}
}

func (s *site) name() string {
	name, _ := s.function.Load().(string)
	return name
}

//go:noinline
func createdBy() string {
	buf := make([]byte, 64<<10)
	buf = buf[:runtime.Stack(buf, false)]
	return creator(string(buf))
}

// creator takes the function out of the "created by" line of one goroutine's traceback.
func creator(trace string) string {
	at := strings.LastIndex(trace, "created by ")
	if at < 0 {
		return ""
	}
	line := trace[at+len("created by "):]
	if end := strings.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	if end := strings.Index(line, " in goroutine "); end >= 0 {
		line = line[:end]
	}
	return line
}

func liveTotal() (live int64) {
	for _, s := range sites() {
		live += s.live()
	}
	return live
}

// arrived tells whether every goroutine that was started has run its first line (or is gone).
func arrived() bool {
	for _, s := range sites() {
		started := s.started.Load()
		if s.entered.Load() < started && s.ended.Load() < started {
			return false
		}
	}
	return true
}

// await looks again and again until done, and gives up after half a minute.
func await(what string, done func() bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for look := 0; !done(); look++ {
		if look < 100 {
			runtime.Gosched()
		} else if time.Sleep(100 * time.Microsecond); time.Now().After(deadline) {
			return fmt.Errorf("%s: not within 30 s; NumGoroutine is %d, the book says %d live", what, runtime.NumGoroutine(), liveTotal())
		}
	}
	return nil
}

// settle waits until the runtime's own count is this program's: main, and every goroutine in the book.
//
// A goroutine raises ended before the runtime takes it away, and everything started has entered: so while
// an end is under way NumGoroutine is too large, and the two are equal only when nothing is under way. What has been let go but has not
// yet run counts as live: commands that let goroutines go await their ends first.
func settle() error {
	equal := 0
	return await("settling", func() bool {
		if arrived() && int64(runtime.NumGoroutine()) == 1+liveTotal() {
			equal++
		} else {
			equal = 0
		}
		return equal >= 3
	})
}

// entry is what the book knows of one creating function.
type entry struct {
	Live    int64 `json:"live"`
	Started int64 `json:"started"`
	Ended   int64 `json:"ended"`
}

// balance is the whole book, as `truth` answers it.
type balance struct {
	NumGoroutine int              `json:"num_goroutine"`
	Live         int64            `json:"live"`
	Started      int64            `json:"started"`
	Ended        int64            `json:"ended"`
	Sites        map[string]entry `json:"sites"`
	Threads      int              `json:"threads"`
	Forks        int64            `json:"forks"`
	Busy         bool             `json:"busy"`
}

// account adds the book up. Sites that the runtime calls by one name are one entry.
func account() balance {
	sum := balance{NumGoroutine: runtime.NumGoroutine(), Sites: map[string]entry{}, Threads: len(threadIDs()), Forks: forked.Load(), Busy: background.on()}
	for _, s := range sites() {
		started, ended := s.started.Load(), s.ended.Load()
		if started == 0 {
			continue
		}
		e := sum.Sites[s.name()]
		e.Started += started
		e.Ended += ended
		e.Live += started - ended
		sum.Sites[s.name()] = e
		sum.Started += started
		sum.Ended += ended
		sum.Live += started - ended
	}
	return sum
}

// threadIDs are the threads of this process, as the kernel lists them.
func threadIDs() map[string]bool {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	ids := map[string]bool{}
	for _, task := range tasks {
		ids[task.Name()] = true
	}
	return ids
}
