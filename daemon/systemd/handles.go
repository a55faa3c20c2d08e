package systemd

import "errors"

// Handles that outlive the process.
//
// systemd keeps open files for a service (systemd.service(5),
// FileDescriptorStoreMax=) and passes them on to its next start. A line handle
// of the kernel's GPIO device kept there keeps its line driven while no
// process of ours is alive.
//
// The protocol is that of sd_notify(3) and sd_listen_fds(3): a datagram
// "FDSTORE=1\nFDNAME=name" with the file attached (SCM_RIGHTS, unix(7)) gives a
// file to systemd, FDSTOREREMOVE=1 has it closed there, and the next start
// finds them from file descriptor 3 on, named in LISTEN_FDNAMES.
// "BARRIER=1" with the end of a pipe attached tells when systemd has dealt with
// what was sent before: it then closes that end.

// ErrNoManager is the reason when there is no systemd to keep handles:
// NOTIFY_SOCKET is not set.
var ErrNoManager = errors.New("not run by systemd: NOTIFY_SOCKET is not set")
