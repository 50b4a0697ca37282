//go:build go1.25

package main

import (
	"sync"
	"testing"
	"testing/synctest"
)

var bubbleOnce sync.Once

func init() {
	// testing/synctest is for tests, so this is one: it never ends. There can be one of them in a program.
	wake("in a synctest bubble", func(m *maker) {
		bubbleOnce.Do(func() {
			started := make(chan struct{})
			bubble := func(*testing.T) {
				c := make(chan int)
				m.start(func() { <-c })
				close(started)
				// A channel from outside: the bubble is not at rest, and its clock stands.
				<-released
				close(c)
				<-never
			}
			test := testing.InternalTest{Name: "bubble", F: func(t *testing.T) { synctest.Test(t, bubble) }}
			go testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{test}, nil, nil)
			<-started
		})
	})
}

var never = make(chan struct{})
