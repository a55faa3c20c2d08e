//go:build !linux

package durable

// Volatile returns "": what is known about file systems here is Linux's.
func Volatile(string) string { return "" }
