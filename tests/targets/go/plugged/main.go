// Command plugged loads a plugin (its neighbour plug), which starts goroutines that block on what only the plugin holds, and
// knows of each whether anything alive can ever wake it.
//
// One line in, one line out, on stdin and stdout, as its neighbour prove: open PATH, make, truth, wake.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"plugin"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

type one struct {
	ID    uint64 `json:"id"`
	Shape string `json:"shape"`
	Leaks bool   `json:"leaks"`
	ended bool
}

var (
	bookLock sync.Mutex
	book     []*one
	loaded   *plugin.Plugin
)

// note enters the goroutine that calls it into the book, and gives what it is to call at its end.
func note(shape string, leaks bool) func() {
	entry := &one{ID: goid(), Shape: shape, Leaks: leaks}
	bookLock.Lock()
	defer bookLock.Unlock()
	book = append(book, entry)
	return func() {
		bookLock.Lock()
		defer bookLock.Unlock()
		entry.ended = true
	}
}

// goid is the number of this goroutine, as its own traceback has it.
func goid() uint64 {
	var buffer [64]byte
	text := strings.TrimPrefix(string(buffer[:runtime.Stack(buffer[:], false)]), "goroutine ")
	id, _ := strconv.ParseUint(text[:strings.IndexByte(text, ' ')], 10, 64)
	return id
}

// living are those of the book that have not ended.
func living() []*one {
	bookLock.Lock()
	defer bookLock.Unlock()
	all := []*one{}
	for _, entry := range book {
		if !entry.ended {
			all = append(all, entry)
		}
	}
	return all
}

// create lets the plugin make its goroutines, on a stack that is gone afterwards, and waits until they are in the book.
func create() error {
	symbol, err := loaded.Lookup("Make")
	if err != nil {
		return err
	}
	before := len(living())
	count := make(chan int)
	go func() { count <- symbol.(func(func(string, bool) func()) int)(note) }()
	wanted := before + <-count
	for tries := 0; len(living()) < wanted; tries++ {
		if tries > 10000 {
			return errors.New("the plugin's goroutines do not come")
		}
		time.Sleep(time.Millisecond)
	}
	// They are in the book, and two steps before where they block.
	time.Sleep(50 * time.Millisecond)
	return nil
}

// wake wakes those that can be woken.
func wake() error {
	symbol, err := loaded.Lookup("Wake")
	if err != nil {
		return err
	}
	symbol.(func())()
	for tries := 0; tries < 10000; tries++ {
		left := 0
		for _, entry := range living() {
			if !entry.Leaks {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("some were to be woken and are not")
}

func main() {
	fmt.Printf("ready {\"pid\":%d,\"version\":%q}\n", os.Getpid(), runtime.Version())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		var value interface{} = struct{}{}
		var err error
		switch {
		case len(words) == 2 && words[0] == "open":
			loaded, err = plugin.Open(words[1])
		case loaded == nil:
			err = errors.New("no plugin is open")
		case len(words) == 1 && words[0] == "make":
			err = create()
		case len(words) == 1 && words[0] == "truth":
			value = living()
		case len(words) == 1 && words[0] == "wake":
			err = wake()
		default:
			err = fmt.Errorf("unknown command %q", lines.Text())
		}
		if err != nil {
			fmt.Printf("err %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		text, _ := json.Marshal(value)
		fmt.Printf("ok %s\n", text)
	}
}
