// Package chaos injects faults into the installed program and checks that nothing is
// lost.
//
// `make chaos` builds cmd/fieldpost with a simulated board and runs it with mosquitto,
// through a proxy. It kills, suspends, renames and reloads the daemon, cuts and stalls
// its connection, fills, breaks and removes its disk, and changes its clock, while it
// sends orders all the time, over MQTT and through the web page, which a neighbour attacks
// meanwhile. Every reading must arrive, or be in a reported gap, or be
// within what a kill may lose. Every order must act at most once and be answered. The
// package consists of tests with the build tag chaos.
package chaos
