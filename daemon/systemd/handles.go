package systemd

import "errors"

// Handles that outlive the process.
//
// systemd keeps open files for a service (systemd.service(5), FileDescriptorStoreMax=) and
// passes them to its next start. A stored line handle of the kernel's GPIO device keeps its
// line driven while no process of ours is alive.
//
// The protocol is that of sd_notify(3) and sd_listen_fds(3). A datagram
// "FDSTORE=1\nFDNAME=name" with the file attached (SCM_RIGHTS, unix(7)) stores a file, and
// FDSTOREREMOVE=1 makes systemd close it. The next start finds the files from file descriptor
// 3 on, named in LISTEN_FDNAMES. "BARRIER=1" comes with the end of a pipe, which systemd
// closes when it has processed everything that was sent before.

// ErrNoManager is the reason when there is no systemd to store handles: NOTIFY_SOCKET is
// not set.
var ErrNoManager = errors.New("not run by systemd: NOTIFY_SOCKET is not set")
