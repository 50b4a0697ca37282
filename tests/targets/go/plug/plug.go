// Command plug is built as a plugin: its goroutines wait for what its own variables hold, or nothing does.
package main

import "sync"

type door struct {
	lock sync.Mutex
	open chan struct{}
}

var (
	// In the plugin's data.
	held = make(chan struct{})
	// In its bss, and from there over the heap.
	listed []*door
	named  = map[string]*door{}
	locked sync.Mutex
)

// Make starts goroutines and tells how many.
func Make(note func(shape string, leaks bool) func()) int {
	forgotten := make(chan struct{})
	go receive(note, "receives from a channel of the plugin that is forgotten", true, forgotten)
	go send(note, "sends to a channel of the plugin that is forgotten", true, make(chan int))
	shut := &door{open: make(chan struct{})}
	shut.lock.Lock()
	go enter(note, "a lock of the plugin that is forgotten", true, &shut.lock)

	go receive(note, "receives from a variable of the plugin", false, held)
	first, second := &door{open: make(chan struct{})}, &door{open: make(chan struct{})}
	second.lock.Lock()
	listed = append(listed, first)
	named["second"] = second
	go receive(note, "receives from what a slice of the plugin holds", false, first.open)
	go enter(note, "a lock that a map of the plugin holds", false, &second.lock)
	locked.Lock()
	go enter(note, "a lock in the plugin's bss", false, &locked)
	return 7
}

// Wake lets go of all that can be let go of.
func Wake() {
	close(held)
	for _, door := range listed {
		close(door.open)
	}
	named["second"].lock.Unlock()
	locked.Unlock()
}

func receive(note func(string, bool) func(), shape string, leaks bool, from <-chan struct{}) {
	defer note(shape, leaks)()
	<-from
}

func send(note func(string, bool) func(), shape string, leaks bool, to chan<- int) {
	defer note(shape, leaks)()
	to <- 1
}

func enter(note func(string, bool) func(), shape string, leaks bool, lock *sync.Mutex) {
	defer note(shape, leaks)()
	lock.Lock()
	lock.Unlock()
}

func main() {}
