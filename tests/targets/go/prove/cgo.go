//go:build truthcgo

package main

/*
#include <stdint.h>
#include <stdlib.h>
#include <pthread.h>
#include <unistd.h>

static uintptr_t *place_of(uintptr_t value) {
	uintptr_t *place = malloc(100000);
	*place = value;
	return place;
}

static _Thread_local uintptr_t kept;
static volatile int over;

static void *keep(void *value) {
	volatile uintptr_t on_stack = (uintptr_t)value;
	kept = on_stack;
	while (!over) usleep(1000);
	return (void *)on_stack;
}

static pthread_t thread_with(uintptr_t value) {
	pthread_t thread;
	pthread_create(&thread, 0, keep, (void *)value);
	return thread;
}

static uintptr_t end_thread(pthread_t thread) {
	void *value;
	over = 1;
	pthread_join(thread, &value);
	return (uintptr_t)value;
}

void provecallback(uintptr_t);

static void call_back(uintptr_t handle) { provecallback(handle); }
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

//export provecallback
func provecallback(handle C.uintptr_t) {
	<-released
	close(cgo.Handle(handle).Value().(chan int))
}

//go:noinline
func number(h *holder) C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(h))) }

//go:noinline
func pointer(value C.uintptr_t) *holder { return *(**holder)(unsafe.Pointer(&value)) }

func init() {
	hidden("C heap", func(m *maker) {
		h := &holder{c: make(chan int)}
		place := C.place_of(number(h))
		onWake(func() { close(pointer(*place).c) })
		m.start(h.wait)
	})
	hidden("stack of a C thread", func(m *maker) {
		h := &holder{c: make(chan int)}
		thread := C.thread_with(number(h))
		onWake(func() { close(pointer(C.end_thread(thread)).c) })
		m.start(h.wait)
	})
	wake("cgo callback", func(m *maker) {
		c := make(chan int)
		handle := cgo.NewHandle(c)
		m.alive(func() { C.call_back(C.uintptr_t(handle)) })
		m.start(func() { <-c })
	})
	leak("below a cgo call", func(m *maker) {
		c := make(chan int)
		m.start(func() { C.usleep(1); <-c })
	})
}
