//go:build cgo

package main

/*
#include <unistd.h>
extern void corpusCallback(void);
static void callBack(void) { corpusCallback(); }
*/
import "C"

func init() { leak("cgo callback", cgoCallback) }

//export corpusCallback
func corpusCallback() { <-never() }

func cgoCallback() { forever(0.4, func() { go func() { C.callBack() }() }) }
