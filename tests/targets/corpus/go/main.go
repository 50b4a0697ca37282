// Command corpus has shapes of goroutines that leak, and shapes that only look so, each with its truth beside it.
//
//	corpus list          one line of JSON: every shape with its truth
//	corpus run NAME...   runs these shapes until standard input ends
//
// A shape's goroutines are started by, or run, a function whose name begins with that of the shape's function, or one
// of the functions that it names besides. README.md tells more.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"reflect"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"
)

// shape is one way to start goroutines.
type shape struct {
	Name string `json:"name"`
	// Leaks is the truth: its goroutines, or a share of them, stay for ever.
	Leaks bool `json:"leaks"`
	// Functions are prefixes of what starts or is its goroutines.
	Functions []string `json:"functions"`
	run       func()
}

var shapes []shape

func add(name string, leaks bool, run func(), others []string) {
	function := runtime.FuncForPC(reflect.ValueOf(run).Pointer()).Name()
	shapes = append(shapes, shape{name, leaks, append([]string{function}, others...), run})
}

// leak is a shape that leaks; others are further functions of its goroutines.
func leak(name string, run func(), others ...string) { add(name, true, run, others) }

// fine is one that does not.
func fine(name string, run func(), others ...string) { add(name, false, run, others) }

// began is when the program did: shapes that change with time go by it.
var began = time.Now()

// now is the age of the program in seconds.
func now() float64 { return time.Since(began).Seconds() }

// never is a channel on which nothing ever comes.
func never() chan int { return make(chan int) }

// between is a random time from low to high, in seconds.
func between(low, high float64) time.Duration {
	return time.Duration((low + rand.Float64()*(high-low)) * 1e9)
}

// forever calls do so many times a second, jittered, for ever.
func forever(rate float64, do func()) {
	varying(func(float64) float64 { return rate }, do)
}

// varying calls do at a rate that depends on the program's age.
func varying(rate func(float64) float64, do func()) {
	owed := rand.Float64()
	last := now()
	for {
		time.Sleep(between(0.02, 0.06))
		at := now()
		owed += (at - last) * rate(at)
		last = at
		for ; owed >= 1; owed-- {
			do()
		}
	}
}

// wave is a day in so many seconds: from 0 to 1 and back.
func wave(at, day float64) float64 { return (1 - math.Cos(2*math.Pi*at/day)) / 2 }

func main() {
	sort.Slice(shapes, func(i, j int) bool { return shapes[i].Name < shapes[j].Name })
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "corpus list | corpus run NAME...")
		os.Exit(2)
	}
	if os.Args[1] == "list" {
		form, _ := json.Marshal(shapes)
		fmt.Println(string(form))
		return
	}
	byName := map[string]shape{}
	for _, s := range shapes {
		byName[s.Name] = s
	}
	var all sync.WaitGroup
	for _, name := range os.Args[2:] {
		s, ok := byName[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no shape", name)
			os.Exit(2)
		}
		all.Add(1)
		go func() { defer all.Done(); s.run() }()
	}
	fmt.Println("ready", strings.Join(os.Args[2:], ","))
	_, _ = io.Copy(io.Discard, os.Stdin)
}
