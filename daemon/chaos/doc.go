// Package chaos does harm to the program that is installed, and keeps the books.
//
// `make chaos` builds cmd/fieldpost on a simulated board and runs it beside
// mosquitto, behind a proxy of its own. It kills, suspends and renames the
// daemon, reloads it, cuts and stalls its connection, fills, breaks and takes away its
// disk, and turns its clock, while orders are given all the time. Every reading
// must arrive, or be in a gap that was reported, or be within what a kill may
// cost; every order must act at most once and be answered. All of it is tests,
// built with the tag chaos.
package chaos
