package main

import "sync"

func init() {
	addLeak("onechan", func(s *site) func() { return theQueue.send(s) })
	addLeak("oneselect", func(s *site) func() { return theQueue.choose(s) })
	addLeak("onemutex", leakOneMutex)
}

// queue is a full channel that many goroutines wait on, and one that nobody else knows.
type queue struct {
	full  chan int
	other chan int
}

var theQueue = func() *queue {
	q := &queue{make(chan int, 2), make(chan int)}
	q.full <- 1
	q.full <- 2
	return q
}()

//go:noinline
func (q *queue) send(s *site) func() {
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		q.full <- 3
	}()
	return func() { <-q.full }
}

//go:noinline
func (q *queue) choose(s *site) func() {
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		select {
		case <-q.other:
		case q.full <- 4:
		}
	}()
	return func() { q.other <- 1 }
}

var theMutex sync.Mutex

func init() { theMutex.Lock() }

//go:noinline
func leakOneMutex(s *site) func() {
	s.starting()
	go func() {
		defer s.ending()
		s.enter()
		theMutex.Lock()
	}()
	return theMutex.Unlock
}
