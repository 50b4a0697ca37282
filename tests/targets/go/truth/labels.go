package main

import (
	"context"
	"runtime/pprof"
)

func init() { addLeak("labels", leakLabels) }

// labelled is what each goroutine of the site "labels" is labelled with, for profiles: more pairs than one bucket of an
// old map holds, and a value that needs quoting.
var labelled = []string{
	"route", "/api/v1", "tenant", "a b", "empty", "", "k0", "v0", "k1", "v1", "k2", "v2", "k3", "v3", "k4", "v4",
	"k5", "v5", "k6", "v6",
}

//go:noinline
func leakLabels(s *site) func() {
	c := make(chan struct{})
	s.starting()
	go func() {
		defer s.ending()
		pprof.Do(context.Background(), pprof.Labels(labelled...), func(context.Context) {
			s.enter()
			<-c
		})
	}()
	return func() { close(c) }
}
