// Package daemon is fieldpost's lifecycle: it builds the parts from a
// configuration, runs them, and shuts them down in order. It is the only place
// that knows them all.
package daemon
