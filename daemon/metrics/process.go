package metrics

import (
	"runtime"
	"time"
)

// Process is what the daemon costs, as the system tells.
type Process struct {
	Known      bool // the fields up to Files are
	CPU        time.Duration
	Resident   int64 // bytes of memory
	Files      int   // open descriptors
	Goroutines int
}

// ThisProcess measures this process. It reads three files of /proc and asks the kernel once; it
// does not stop other goroutines. Any goroutine.
func ThisProcess() Process {
	p := usage()
	p.Goroutines = runtime.NumGoroutine()
	return p
}
