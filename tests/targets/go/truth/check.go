package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// seen is what a dump of the runtime says of the goroutines of one creating function.
type seen struct {
	live   int64
	active int64 // running or runnable: not yet at the place where they block
}

// everyStack is what net/http/pprof serves as debug=2.
func everyStack() []byte {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return buf[:n]
		}
	}
}

// readDump asks the runtime for every goroutine and groups them by creating function; main is under "".
func readDump() map[string]seen {
	groups := map[string]seen{}
	for _, trace := range strings.Split(string(everyStack()), "\n\n") {
		if !strings.HasPrefix(trace, "goroutine ") {
			continue
		}
		header := trace[:strings.IndexByte(trace, ':')]
		group := groups[creator(trace)]
		group.live++
		if strings.Contains(header, "[running") || strings.Contains(header, "[runnable") {
			group.active++
		}
		groups[creator(trace)] = group
	}
	return groups
}

// checkAgainstDump compares the book with the runtime's own dump, site by site.
//
// A goroutine of the runtime counts as the program's while it runs a finalizer or a cleanup, so one look may see one more
// than the book: what is wrong must be wrong again and again.
func checkAgainstDump() (interface{}, error) {
	for tries := 0; ; tries++ {
		book, err := compareWithDump()
		if err == nil || tries == 20 {
			return book, err
		}
		time.Sleep(5 * time.Millisecond)
		if err := settle(); err != nil {
			return nil, err
		}
	}
}

// compareWithDump is one look.
func compareWithDump() (interface{}, error) {
	var wrong []string
	book, dump := account(), readDump()
	for name, e := range book.Sites {
		if dump[name].live != e.Live {
			wrong = append(wrong, fmt.Sprintf("%s: the book says %d live, the dump %d", name, e.Live, dump[name].live))
		}
	}
	for name, group := range dump {
		if _, known := book.Sites[name]; !known && (name != "" || group.live != 1) {
			wrong = append(wrong, fmt.Sprintf("%q: the dump has %d, the book has no such site", name, group.live))
		}
	}
	if int64(book.NumGoroutine) != book.Live+1 {
		wrong = append(wrong, fmt.Sprintf("NumGoroutine is %d, the book says %d", book.NumGoroutine, book.Live+1))
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return book, nil
}

// parkedDumpLimit is the size up to which a dump, which stops the world, is cheap enough to ask.
const parkedDumpLimit = 3000

// parked waits until all goroutines of a site have come to the place where they block, not merely run
// their first line.
func parked(s *site) error {
	if err := settle(); err != nil {
		return err
	}
	if liveTotal() > parkedDumpLimit {
		// They have all run; this gives the last ones, at most one a processor, their time to park.
		time.Sleep(20 * time.Millisecond)
		return nil
	}
	return await(s.name()+" blocking", func() bool { return readDump()[s.name()].active == 0 })
}

func dump(args []string) (interface{}, error) {
	if len(args) != 1 {
		return nil, errors.New("one path is needed")
	}
	return none{}, os.WriteFile(args[0], everyStack(), 0o644)
}
