// Package spool keeps mail until the broker has it.
//
// A record that is appended is in memory at first. Most are acknowledged
// within a second and never touch the disk. What is not is written, and synced
// before more than the time at risk has passed; so a power cut costs at most
// that much of what was not acknowledged, a killed process the last second or
// so. With no time at risk a record is on disk before it is sent.
//
// # What is promised
//
// A record that was appended is given by [Spool.Next] until it is acknowledged,
// in this run or a later one, or else a gap record tells of its loss. After a
// crash some records may come twice, with the same run and seq; after a good
// stop none does. Gaps are items themselves, see [Gap]. The reasons:
//
//   - spool_full: dropped to keep within MaxBytes, or within Memory while the disk fails, of
//     the sensors that have more than their share of it (see share.go)
//   - too_old: dropped because of MaxAge
//   - crash: the last run did not stop in good order; readings after after_seq may be lost.
//     Every sensor of [Options] gets one, after_seq 0 where nothing else is known
//   - damaged: a file could not be read back
//   - refused: the broker will not take it; it is in refused.jsonl
//
// Answers, faults and events have no count. Where such are dropped a gap
// without sensor tells how many each run had; not certain where some of them were
// given out.
//
// A gap claims no more than is missing, unless it is not certain. What was given
// out and then dropped may be acknowledged yet, or only the acknowledgement be
// lost: it has a gap of its own, which is not certain. A good stop notes how far
// each log was given out, so that later runs know; after any other end all that
// is there counts as given out. In an outage that drops one segment after the
// other a gap that still waits grows, so that there are few.
//
// A run that has no disk, or has lost it, is noted in Options.Beside, so that its crash is
// told, and earlier runs' mail counts as given out. What is not told: a power cut
// in such a run.
//
// # On disk
//
// There are three logs: samples, edges, and events, which go out first but leave
// the others a share (see turns.go). Each log is a row of segment files of 256 KB, of frames with a
// checksum (CRC-32C, RFC 3720, appendix B.4). A segment is written by one run only,
// is synced with fdatasync(2), its name with fsync(2) of file and directory, and is
// removed when everything in it is acknowledged. One of which a full spool drops
// some is written anew with the rest (see compact.go). The file "acks" holds what is
// acknowledged of segments that are still there; acks are appended without a
// sync, so losing its end costs repeats. It names the segments too, so that one
// that is cut short or missing is found out, and holds each gap that is owed
// once more, for no reading may be lost together with the gap that tells of it.
// The file "run" holds the number of the run and whether it stopped in good
// order, and the names of its sensors. refused.jsonl holds what the broker
// would not take, and files ending in .damaged are for people to look at; both
// are bounded, and nothing reads them again.
//
// The file "identity" holds the spool's id, which is made of chance in a fresh
// directory, and a fingerprint of the board. Where the directory is found on
// another board, as its card was copied or moved, it gets a new id. It holds too
// which id and which thing the runs had whose records, or whose gaps, are still
// here; the file of acks has that once more. So a record is told by (thing, spool,
// sensor, run, seq) for good, see [Source]. A run without a disk has an id of its
// own.
//
// A journal ([Spool.Journal]) is a file of such frames that another package keeps in the same
// directory, under the same lock and outside MaxBytes: "orders.journal" of
// package command, "levels.journal" of package output, "boots.journal" of what
// package clock knows of earlier boots, "subscriptions.journal" of what the broker's
// sessions may hold.
//
// Memory holds what is not durable, a little of what is, and 1 MiB of what is read
// back while a backlog goes out.
//
// # When the disk fails
//
// An error of the disk is never the caller's: the spool goes on in memory
// within a bound, raises a fault and tries again. After a failed sync the kernel
// may have thrown away what it could not write and report success the next time
// (fsync(2), notes on EIO), so that file is not trusted beyond what was synced
// before; the rest is written again, from memory, to a new one.
//
// A directory, or a file in it, that is removed, renamed or mounted over while it
// is open takes all that is written and says nothing. So after each sync, and when
// [Spool.Verify] is called, names are compared with what is open. Where the
// directory is gone it is made again, and what memory and the open files have is
// written to it, journals included; a gap of reason damaged tells of the rest. If
// the lost directory comes back in the place of the new one, the rest is given
// after all. A directory with mail of another run of our number is left for the next
// start.
//
// A disk that does not answer for 10 s is such a fault too, until it does. It
// holds up nobody but the two goroutines of Run, one that writes and one that
// reads: what is in memory is taken in and given out meanwhile. Only what is to
// follow something that can but be read from that disk waits, as what is of one
// sensor and kind is given in its order.
//
// Damage is a fault until the damaged files are mended or set aside and the
// broker has every gap that tells what it cost.
//
// What is in a file is given up only when the file of acks has it, in one step
// with the gap that tells of it; until then nothing is given out, for 10 s at
// most. So a daemon that is killed while its disk fails sends nothing that it has
// told to be lost, and nothing behind what came later. A power cut may do that to
// what was given up from memory while the disk failed: a part of it that had been
// written may be there again.
//
// # Who may call what from where
//
// Open, Run and Close tell package health of faults, which calls the daemon's
// notification on a goroutine of theirs. That may call every other method but
// those of a journal: none of them waits for the disk or tells of faults.
package spool
