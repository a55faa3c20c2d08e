// Package spool keeps entries until the broker has them: a durable, bounded outbox on a
// segment log. An entry is bytes, with the sensor whose it is, its count and its time.
// What the bytes say is the caller's affair: package records keeps messages so.
//
// # The way of an entry
//
// [Spool.Append] puts an entry into memory and returns. [Spool.Next] gives it to the
// sender, [Spool.Ack] forgets it when the broker has it. Most entries are acknowledged
// within a second and never touch the disk. What is not is written about a second
// later, and synced before more than Options.AtRisk has passed. So a power cut costs at
// most that much of what was not acknowledged, a killed process the last second or so.
// With no time at risk an entry is on disk before it is sent.
//
// To follow one entry to the disk, read spool.go (Append), writer.go (when, and in which
// order) and segment.go (the file).
//
// # What is promised
//
// An entry that was appended is given by Next until it is acknowledged, in this run or
// a later one, or else a [Gap] tells of its loss. After a crash some entries may come
// twice, with the same run and seq; after a good stop none does. The reasons of gaps:
//
//   - spool_full: dropped to keep within MaxBytes, or within Memory while the disk fails, of
//     the sensors that have more than their share of it (limits.go)
//   - too_old: dropped because of MaxAge
//   - crash: the last run did not stop in good order; entries after First may be lost.
//     Every sensor of [Options] gets one, from 1 where nothing else is known
//   - damaged: a file could not be read back
//   - refused: the broker will not take it; it is in refused.jsonl
//
// Where entries without a count are dropped a gap without sensor tells how many each run
// had. A gap claims no more than is missing, unless it is uncertain. What was sent and
// then dropped may be acknowledged yet, or only the acknowledgement be lost: it has a
// gap of its own, which is uncertain. A good stop records how far each log was sent, so
// that later runs know; after any other end everything that is there counts as sent. In
// an outage that drops one segment after the other a gap that still waits grows, so that
// there are few.
//
// # The files
//
//   - samples-7-3.seg, edges-..., events-...: segments (segment.go). Each class has a log of
//     its own, a row of segments of 256 KB, of frames with a checksum (CRC-32C, RFC 3720,
//     appendix B.4). One run writes a segment; it is removed when everything in it is
//     acknowledged. A full spool that drops some of it writes the rest anew (compact.go)
//   - acks: the ack file (ackfile.go). It says what is acknowledged of segments that are
//     still there, which segments there are, so that one that is cut short or missing is
//     found out, and holds each gap that is owed once more
//   - run: the run file (runfile.go): the number of the run, its sensors, and whether it
//     stopped in good order
//   - identity: the spool's id and board, and who took what is here (identity.go). So
//     (thing, spool, sensor, run, seq) names an entry for good
//   - lock: says which process has the directory (directory.go)
//   - refused.jsonl, refused.1.jsonl: what the broker would not take; files ending in
//     .damaged are for people, too. Both are bounded, and nothing reads them again
//   - *.journal: what other packages keep under the same lock ([Spool.Journal])
//
// MaxBytes bounds all of these but the journals. Memory holds what is not durable, a
// little of what is, and 1 MiB of what is read back while a backlog goes out.
//
// # When the disk fails
//
// An error of the disk is never the caller's: the spool goes on in memory within a
// bound, raises a fault and tries again. After a failed sync the kernel may have thrown
// away what it could not write and report success the next time (fsync(2), notes on
// EIO), so that file is not trusted beyond what was synced before; the rest is written
// again, from memory, to a new one.
//
// A directory, or a file in it, that is removed, renamed or mounted over while it is
// open takes everything that is written and says nothing. So after each sync, and when
// [Spool.Verify] is called, names are compared with what is open (vanished.go). Where the
// directory is gone it is made again, and what memory and the open files have is written
// to it; a gap of reason damaged tells of the rest. If the lost directory comes back in
// the place of the new one, the rest is given after all. A directory with mail of another
// run of our number is left for the next start.
//
// A run that has no disk, or has lost it, is recorded in Options.RuntimeDir, so that its
// crash is told, and earlier runs' entries count as sent. What is not told: a power cut in
// such a run.
//
// A disk that does not answer for 10 s is such a fault too, until it does. It holds up
// nobody but the two goroutines of Run, one that writes and one that reads: what is in
// memory is taken in and given out meanwhile. Only what is to follow something that can
// but be read from that disk waits, as what is of one sensor and class goes in its order.
//
// Damage is a fault until the damaged files are repaired or set aside and the broker has
// every gap that tells what it cost.
//
// What is in a file is given up only when the ack file has it, in one step with the gap
// that tells of it; until then nothing is sent, for 10 s at most (drop.go). So a daemon
// that is killed while its disk fails sends nothing that it has told to be lost, and
// nothing behind what came later. A power cut may do that to what was given up from
// memory while the disk failed: a part of it that had been written may be there again.
//
// # Who may call what from where
//
// Open, Run and Close tell package health of faults, which calls the daemon's
// notification on a goroutine of theirs. That may call every other method but those of a
// journal: none of them waits for the disk or tells of faults.
//
// Inside, everything that a goroutine other than the writer's may see is in the store,
// under one lock that is never held while the disk works. A method whose name ends in
// Locked is called with it held; types without a lock say whose guards them.
package spool
