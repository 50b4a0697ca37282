// Truth is a program that always knows how many goroutines it has started, how many of them have
// ended, and which line started them. The live tests compare leakwatch's figures with its own.
//
// It is driven over stdin and stdout, one line each way; README.md has the protocol. It uses the
// standard library only and builds with every Go from 1.19 on.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// command does one thing and returns what its answer carries.
type command struct {
	usage string
	run   func(args []string) (interface{}, error)
}

// none is the answer of a command that has nothing to say.
type none struct{}

var commands = map[string]command{}

func init() {
	commands["truth"] = command{"truth", func([]string) (interface{}, error) { return account(), nil }}
	commands["check"] = command{"check", func([]string) (interface{}, error) { return checkAgainstDump() }}
	commands["dump"] = command{"dump PATH", dump}
	commands["gc"] = command{"gc", func([]string) (interface{}, error) { runtime.GC(); runtime.GC(); return none{}, nil }}
	commands["help"] = command{"help", help}
	commands["exit"] = command{"exit CODE", exit}
	commands["crash"] = command{"crash", crash}
}

func main() {
	procs, err := strconv.Atoi(os.Getenv("TRUTH_GOMAXPROCS"))
	if err != nil || procs < 1 {
		procs = 2
	}
	runtime.GOMAXPROCS(procs)
	say("ready", map[string]interface{}{
		"pid": os.Getpid(), "version": runtime.Version(), "gomaxprocs": procs, "cgo": cgoBuilt, "coroutines": coroutinesBuilt,
	})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 0 {
			answer(words[0], words[1:])
		}
	}
}

// answer runs one command, waits until every count is settled, and prints the one line.
func answer(name string, args []string) {
	cmd, known := commands[name]
	if !known {
		refuse(fmt.Errorf("unknown command %q; help lists them", name))
		return
	}
	// The background churn stands still while a command runs up to its answer, so that the answer is exact.
	resume := background.pause()
	defer resume()
	began := time.Now()
	if err := settle(); err != nil {
		refuse(err)
		return
	}
	result, err := cmd.run(args)
	if err == nil {
		err = settle()
	}
	if err != nil {
		refuse(fmt.Errorf("%s: %w (usage: %s)", name, err, cmd.usage))
		return
	}
	if done, ok := result.(work); ok {
		done.NS = time.Since(began).Nanoseconds()
		result = done
	}
	say("ok", result)
}

// work is the answer of a command that started goroutines that have all ended again.
type work struct {
	Function string `json:"function"`
	Started  int64  `json:"started"`
	NS       int64  `json:"ns"`
}

func say(word string, value interface{}) {
	text, err := json.Marshal(value)
	if err != nil {
		refuse(err)
		return
	}
	fmt.Printf("%s %s\n", word, text)
}

func refuse(err error) {
	fmt.Printf("err %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
}

// number reads the argument at index i, or gives fallback where there is none.
func number(args []string, i int, fallback int) (int, error) {
	if i >= len(args) {
		if fallback < 0 {
			return 0, fmt.Errorf("argument %d is missing", i+1)
		}
		return fallback, nil
	}
	n, err := strconv.Atoi(args[i])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("argument %q is not a count", args[i])
	}
	return n, nil
}

func help([]string) (interface{}, error) {
	usages := map[string]string{}
	for name, cmd := range commands {
		usages[name] = cmd.usage
	}
	return usages, nil
}

func exit(args []string) (interface{}, error) {
	code, err := number(args, 0, 0)
	if err != nil {
		return nil, err
	}
	say("ok", none{})
	os.Exit(code)
	return nil, nil
}

func crash([]string) (interface{}, error) {
	say("ok", none{})
	panic("crash, as asked for")
}
