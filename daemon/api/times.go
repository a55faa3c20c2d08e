package api

import (
	"math"
	"time"
)

// Time returns a time as answers have it: to the millisecond, in UTC.
func Time(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// Seconds returns a duration in seconds, to the millisecond, never less than 0.
func Seconds(d time.Duration) float64 { return max(0, math.Round(d.Seconds()*1000)/1000) }

// Lasted is like [Seconds], but returns at least a millisecond, for keys where 0 means
// that there is no such time.
func Lasted(d time.Duration) float64 { return max(0.001, Seconds(d)) }
