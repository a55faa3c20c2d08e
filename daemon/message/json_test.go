package message

import (
	"testing"
	"time"
)

// A time is written as the package time writes it, whatever the year.
func TestAppendTimeIsAppendFormat(t *testing.T) {
	times := []time.Time{
		{}, time.Unix(0, 0), time.Unix(0, 999_999), time.Unix(0, 999_999_999), time.Unix(-1, 1),
		time.Date(-1, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9, 10, 11, 12, 13, 14, 15_000_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2024, 2, 29, 1, 2, 3, 4_005_006, time.UTC), time.Date(2026, 11, 29, 20, 30, 40, 120_000_000, time.UTC),
	}
	for at := time.Unix(1, 0); at.Year() < 2200; at = at.Add(1234*time.Hour + 56*time.Minute + 7*time.Second + 89*time.Millisecond) {
		times = append(times, at)
	}
	for _, at := range times {
		at = at.UTC()
		if got, want := string(appendTime([]byte(`"`), at)), `"`+at.Format(timeFormat); got != want {
			t.Errorf("%v is written %s, want %s", at, got, want)
		}
	}
}
