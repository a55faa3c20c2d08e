// Package spool keeps mail until the broker has it.
package spool
