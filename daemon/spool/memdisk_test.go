package spool

import "fieldpost/daemon/durable/durabletest"

// memDisk is a disk in memory that knows what a power cut would leave of it,
// and fails when told to.
type memDisk = durabletest.Dir

func newMemDisk() *memDisk {
	d := durabletest.New()
	d.Locked = &LockedError{Dir: "memory", PID: 1}
	return d
}
