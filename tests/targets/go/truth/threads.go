package main

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	threadSite = newSite()
	lockedSite = newSite()
	forked     atomic.Int64
	// heldThreads is the write end of the pipe that the goroutines of `threads` read from; 0: there are none.
	heldThreads int
)

func init() {
	commands["lockosthread"] = command{"lockosthread N", lockOSThread}
	commands["threads"] = command{"threads N", threads}
	commands["threads-end"] = command{"threads-end", threadsEnd}
	commands["forks"] = command{"forks N", forks}
	commands["exec"] = command{"exec", execSelf}
}

// lockOSThread starts n goroutines that end while they are locked to their thread, which the runtime then
// ends, too. It answers when those threads are gone.
func lockOSThread(args []string) (interface{}, error) {
	n, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	tids := make(chan int, n)
	each(n, 16, lockedSite, func() { startLocked(tids) })
	if err := await("the end of all", func() bool { return lockedSite.live() == 0 }); err != nil {
		return nil, err
	}
	for i := 0; i < n; i++ {
		tid := strconv.Itoa(<-tids)
		if err := await("the end of thread "+tid, func() bool { return !threadIDs()[tid] }); err != nil {
			return nil, err
		}
	}
	return work{Function: lockedSite.name(), Started: int64(n)}, nil
}

//go:noinline
func startLocked(tids chan<- int) {
	go func() {
		defer lockedSite.ending()
		lockedSite.enter()
		runtime.LockOSThread()
		// The runtime parks the first thread instead of ending it. A blocking system call makes it hand
		// its processor to another thread, which goes on with this goroutine.
		for syscall.Gettid() == os.Getpid() {
			runtime.UnlockOSThread()
			nap := syscall.NsecToTimespec(int64(2 * time.Millisecond))
			_ = syscall.Nanosleep(&nap, nil)
			runtime.LockOSThread()
		}
		tids <- syscall.Gettid()
	}()
}

// heldAnswer says which threads are held in a system call.
type heldAnswer struct {
	Function string `json:"function"`
	TIDs     []int  `json:"tids"`
	Threads  int    `json:"threads"`
}

// threads holds n more threads, each in a blocking read that the runtime knows nothing of.
func threads(args []string) (interface{}, error) {
	n, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	if heldThreads != 0 {
		return nil, errors.New("threads are held already; threads-end lets go of them")
	}
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	heldThreads = pipe[1]
	tids := make(chan int, n)
	for i := 0; i < n; i++ {
		threadSite.starting()
		startBlocked(pipe[0], tids)
	}
	held := heldAnswer{TIDs: []int{}}
	for i := 0; i < n; i++ {
		held.TIDs = append(held.TIDs, <-tids)
	}
	if err := parked(threadSite); err != nil {
		return nil, err
	}
	held.Function, held.Threads = threadSite.name(), len(threadIDs())
	return held, nil
}

//go:noinline
func startBlocked(pipe int, tids chan<- int) {
	go func() {
		defer threadSite.ending()
		threadSite.enter()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tids <- syscall.Gettid()
		for {
			if _, err := syscall.Read(pipe, make([]byte, 1)); err != syscall.EINTR {
				return
			}
		}
	}()
}

func threadsEnd([]string) (interface{}, error) {
	if heldThreads == 0 {
		return nil, errors.New("no threads are held")
	}
	err := syscall.Close(heldThreads)
	heldThreads = 0
	if err != nil {
		return nil, err
	}
	return none{}, await("the end of all", func() bool { return threadSite.live() == 0 })
}

// forks runs /bin/true n times without os/exec, which starts goroutines and probes the kernel with a
// process of its own.
func forks(args []string) (interface{}, error) {
	n, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	for i := 0; i < n; i++ {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err != nil {
			return nil, err
		}
		forked.Add(1)
		var status syscall.WaitStatus
		for {
			if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return map[string]int64{"forks": forked.Load()}, nil
}

// execSelf replaces this program by itself; the ready line of the new one is the answer.
func execSelf([]string) (interface{}, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return nil, syscall.Exec(exe, os.Args, os.Environ())
}
