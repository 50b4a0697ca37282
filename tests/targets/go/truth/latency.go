package main

import (
	"sort"
	"time"
)

func init() {
	commands["measure"] = command{"measure MILLISECONDS", func(args []string) (interface{}, error) { return measure(args, false) }}
	commands["measuredump"] = command{"measuredump MILLISECONDS", func(args []string) (interface{}, error) { return measure(args, true) }}
}

// latency is what requests took that a worker answered, and what the program's own dump took meanwhile.
type latency struct {
	Requests int   `json:"requests"`
	P50      int64 `json:"p50_ns"`
	P99      int64 `json:"p99_ns"`
	Max      int64 `json:"max_ns"`
	Dump     int64 `json:"dump_ns"`
}

var (
	measuring = newSite()
	dumping   = newSite()
)

// measure sends a request to a worker every 200 microseconds; each is the time from when it was due to its answer, so
// that what stops the program is in the requests that wait meanwhile.
func measure(args []string, withDump bool) (interface{}, error) {
	ms, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	requests, answers := make(chan int), make(chan int)
	measuring.starting()
	go answer1(requests, answers)
	took := make(chan int64, 1)
	if withDump {
		dumping.starting()
		go dumpOnce(took)
	}
	const every = 200 * time.Microsecond
	var times []int64
	begin := time.Now()
	for due := begin; time.Since(begin) < time.Duration(ms)*time.Millisecond; due = due.Add(every) {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		requests <- 1
		<-answers
		times = append(times, int64(time.Since(due)))
	}
	close(requests)
	result := latency{Requests: len(times)}
	if withDump {
		result.Dump = <-took
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	if len(times) > 0 {
		result.P50, result.P99, result.Max = times[len(times)/2], times[len(times)*99/100], times[len(times)-1]
	}
	return result, settle()
}

//go:noinline
func answer1(requests, answers chan int) {
	defer measuring.ending()
	measuring.enter()
	for n := range requests {
		answers <- n + 1
	}
}

//go:noinline
func dumpOnce(took chan int64) {
	defer dumping.ending()
	dumping.enter()
	begin := time.Now()
	everyStack()
	took <- int64(time.Since(begin))
}
