// Package memory gives memory back that a process needed only while it started.
//
// A daemon's start runs code that is never used again: packages initialise, the configuration is
// parsed, chips are set up, the first TLS handshake is made. On Linux each page of the program's
// file that was touched, and up to 15 around it, stays mapped and counts as the process's memory
// (RSS, PSS), until the system runs short of memory. For fieldpost that was nearly the whole file.
package memory

import "runtime/debug"

// Release collects garbage, returns free memory of the heap to the system, and unmaps the pages of
// the program's file, where the system can do that (Linux). They stay in the system's page cache,
// which may drop them more easily now. What is used again is mapped again page by page, in a
// microsecond or so each, and read from the disk only if the cache has dropped it. Release takes
// some milliseconds. Any goroutine.
func Release() error {
	program, err := cleanMappings()
	debug.FreeOSMemory()
	if err != nil {
		return err
	}
	return unmap(program)
}

// mapping is a part of the address space.
type mapping struct{ start, end uintptr }
