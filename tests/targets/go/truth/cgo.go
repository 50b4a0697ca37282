//go:build truthcgo

package main

/*
#include <pthread.h>
#include <unistd.h>

void goCallback(int);

static void *call_back(void *arg) {
	goCallback((int)(long)arg);
	return arg;
}

static int threads_calling_back(int n) {
	for (int i = 0; i < n; i++) {
		pthread_t thread;
		if (pthread_create(&thread, 0, call_back, (void *)(long)i)) return -1;
		if (pthread_join(thread, 0)) return -1;
	}
	return 0;
}

static int add_one(int n) {
	if (n % 64 == 0) usleep(100);
	return n + 1;
}
*/
import "C"

import (
	"errors"
	"runtime"
)

const cgoBuilt = true

var (
	cgoSite      = newSite()
	callbackSite = newSite()
)

func init() {
	commands["cgocall"] = command{"cgocall N", churn(func(n, _ int) *site { return each(n, 64, cgoSite, startCgoCall) })}
	commands["cgocallback"] = command{"cgocallback N", cgoCallback}
}

//go:noinline
func startCgoCall() {
	go func() {
		defer cgoSite.ending()
		cgoSite.enter()
		sink.Add(int64(C.add_one(C.int(cgoSite.started.Load()))))
	}()
}

// cgoCallback makes n C threads, one after another, each of which calls back into Go, which starts a
// goroutine and waits for it.
func cgoCallback(args []string) (interface{}, error) {
	n, err := number(args, 0, -1)
	if err != nil {
		return nil, err
	}
	if C.threads_calling_back(C.int(n)) != 0 {
		return nil, errors.New("a C thread could not be made")
	}
	if err := settle(); err != nil {
		return nil, err
	}
	return work{Function: callbackSite.name(), Started: int64(n)}, nil
}

//export goCallback
func goCallback(C.int) {
	callbackSite.starting()
	startFromCallback()
	for callbackSite.live() > 0 {
		runtime.Gosched()
	}
}

//go:noinline
func startFromCallback() {
	go func() {
		defer callbackSite.ending()
		callbackSite.enter()
	}()
}
