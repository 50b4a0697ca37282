//go:build goexperiment.arenas

package main

import "arena"

var globalArena []*holder

func init() {
	wake("arena", func(m *maker) {
		h := arena.New[holder](arena.NewArena())
		h.c = make(chan int)
		c := h.c
		globalArena = append(globalArena, h)
		if len(globalArena) == 1 {
			onWake(func() {
				for _, h := range globalArena {
					close(h.c)
				}
			})
		}
		m.start(func() { <-c })
	})
	leak("in a local arena", func(m *maker) {
		h := arena.New[holder](arena.NewArena())
		h.c = make(chan int)
		m.start(func() { <-h.c })
	})
}
