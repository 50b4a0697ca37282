//go:build go1.24

package main

import (
	"context"
	"iter"
	"runtime"
	"unique"
	"weak"
)

var globalWeak []weak.Pointer[holder]
var globalUnique unique.Handle[string]

func init() {
	globalUnique = unique.Make("value")
	wake("context.AfterFunc", func(m *maker) {
		ctx, cancel := context.WithCancel(context.Background())
		c := make(chan int)
		context.AfterFunc(ctx, func() { close(c) })
		onWake(cancel)
		m.start(func() { <-c })
	})
	wake("cleanup's argument", func(m *maker) {
		c := make(chan int)
		runtime.AddCleanup(new(holder), func(c chan int) { close(c) }, c)
		m.start(func() { <-c })
	})
	hidden("weak pointer", func(m *maker) {
		h := &holder{c: make(chan int)}
		globalWeak = append(globalWeak, weak.Make(h))
		if len(globalWeak) == 1 {
			onWake(func() {
				for _, w := range globalWeak {
					close(w.Value().c)
				}
			})
		}
		m.start(func() { h.wait(); runtime.KeepAlive(h) })
	})
	wake("held by a coroutine", func(m *maker) {
		c := make(chan int)
		next, stop := iter.Pull(func(yield func(int) bool) {
			for yield(1) {
			}
			close(c)
		})
		next()
		onWake(stop)
		m.start(func() { <-c })
	})
	wake("runtime.Pinner", func(m *maker) {
		h := &holder{c: make(chan int)}
		pinner := new(runtime.Pinner)
		pinner.Pin(h)
		address := &h.c
		onWake(func() { close(*address); pinner.Unpin() })
		m.start(h.wait)
	})
}
