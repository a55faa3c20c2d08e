// Package spool stores entries until the broker has them: a durable, bounded queue on a
// segment log. An entry is bytes, with the sensor that it belongs to, its count and its
// time. The spool does not look into the bytes: package records stores messages this way.
//
// # The life of an entry
//
// [Spool.Append] stores an entry in memory and returns. [Spool.Next] hands it to the
// sender, and [Spool.Ack] removes it when the broker has it. Most entries are acknowledged
// within a second and never touch the disk. The others are written after about a second
// and synced before Options.AtRisk has passed. So a power cut costs at most that much of
// what was not acknowledged, and a killed process the last second or so. If AtRisk is 0,
// an entry is on disk before it is sent.
//
// To follow an entry to the disk, read spool.go (Append), writer.go (when and in which
// order) and segment.go (the file). To follow it to the sender, read schedule.go (whose
// turn it is) and reader.go (entries that are only on disk).
//
// # Promises
//
// Next returns an entry until it is acknowledged, in this run or a later one, or a [Gap]
// reports its loss. After a crash some entries may come twice, with the same run and seq;
// after an orderly stop none does. A gap has one of these reasons:
//
//   - spool_full: dropped because of MaxBytes, or because of Memory while the disk fails.
//     The sensors that use more than their share lose entries (limits.go)
//   - too_old: dropped because of MaxAge
//   - crash: the last run did not stop in order. If its risk file says what was at risk, the
//     gap covers what was lost, and there is none if nothing was. Otherwise, as after a power
//     cut, every sensor of [Options] gets an uncertain gap without an end: from 1 if nothing
//     else is known
//   - damaged: a file could not be read
//   - refused: the broker will not take it; it is in refused.jsonl
//
// Entries without a count (answers, faults, events) are reported per run, in a gap without
// a sensor. A gap covers only what is missing, unless it is uncertain. An entry that was
// sent and then dropped may have arrived, so it gets an uncertain gap of its own. An
// orderly stop records how far each sensor's entries were sent; after any other end, all
// entries that are found count as sent. While an outage drops one segment after another, a
// gap that still waits grows, so that there are few gaps.
//
// # Files
//
//   - samples-7-3.seg, edges-*.seg, events-*.seg: the segments (segment.go). Each class has
//     its own log of segments of 256 KB, which consist of frames with a checksum (CRC-32C,
//     RFC 3720, appendix B.4). A segment belongs to one run; it has entries that earlier runs
//     took if that run has lost the directory and rewritten what it had in memory. It is
//     removed when all its entries are acknowledged. If the spool is full and drops some of
//     them, the rest of the segment is rewritten (compact.go)
//   - acks: the ack file (ackfile.go): which entries of the segments are acknowledged, which
//     segments exist, so that a missing or shortened one is noticed, and a second copy of
//     each gap
//   - run: the run file (runfile.go): the number of the run, its sensors, and whether it
//     stopped in order
//   - identity: the id of the spool, its board, and who took the entries (identity.go).
//     (thing, spool, sensor, run, seq) identifies an entry for ever
//   - lock: the process that uses the directory (directory.go)
//   - refused.jsonl, refused.1.jsonl, *.damaged: for people. Their size is bounded, and the
//     spool does not read them
//   - *.journal: files of other packages under the same lock ([Spool.Journal])
//
// In Options.RuntimeDir, which survives the process but not the boot:
//
//   - spool-risk-7: the risk file (riskfile.go): what a kill of run 7 would cost now
//   - spool-run-7: run 7 has no disk (runfile.go)
//
// MaxBytes bounds all files except the journals. Memory holds what is not durable yet, a
// little of what is, and up to 1 MiB that is read back while a backlog is sent.
//
// # Disk failures
//
// A disk error never reaches the caller. The spool continues in memory within its bound,
// raises a fault and retries. After a failed sync the kernel may have dropped data and may
// report success the next time (fsync(2), notes on EIO). So the spool trusts only what was
// synced before, and writes the rest again, from memory, to a new file.
//
// If the directory or a file in it is removed, renamed or mounted over, writes and syncs
// still succeed, but without effect. So after each sync, and on [Spool.Verify], the spool
// compares the names with its open files (vanished.go). If the directory is gone, it creates
// it again and writes what memory and the open files have; a gap of reason damaged covers
// the rest. If the lost directory comes back later, the rest is sent after all. A directory
// that contains another run with our number is left for the next start.
//
// A run without a disk is recorded in Options.RuntimeDir, so that the next run reports its
// crash. A power cut during such a run is not reported.
//
// If the disk does not answer for 10 s, that is a fault too, until it answers. It blocks
// only the two goroutines of Run, the writer and the reader. Entries in memory are still
// accepted and sent, except those that must follow entries of the same sensor and class on
// that disk.
//
// Damage is a fault until the damaged files are repaired or set aside and the broker has
// all gaps about it.
//
// Before entries in a file are dropped, the ack file records the drop and its gap in one
// write (drop.go). Meanwhile nothing is sent, for 10 s at most. So a daemon that is killed
// while its disk fails does not later send entries that it reported as lost, nor entries
// that are older than what it has sent. One case remains: after a power cut, a part of what
// was dropped from memory while the disk failed may be in a file and come again.
//
// # Concurrency
//
// Open, Run and Close report faults to package health, which calls the daemon back on their
// goroutine. The callback may use all methods of a Spool except its journals: no method
// waits for the disk or reports faults.
//
// All state that several goroutines use is in the store, under one lock, which is never
// held during disk operations. Methods whose names end in Locked need that lock. The risk file
// has another lock, which is taken before it: Append, Next, More and Ack write that file, in
// memory. A type
// without a lock of its own says which lock guards it.
package spool
