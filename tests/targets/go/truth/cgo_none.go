//go:build !truthcgo

package main

// cgoBuilt is true in the flavour that is built with the tag truthcgo.
const cgoBuilt = false
