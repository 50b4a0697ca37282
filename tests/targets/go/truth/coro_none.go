//go:build !go1.23

package main

// coroutinesBuilt: iter.Pull came with Go 1.23.
const coroutinesBuilt = false
