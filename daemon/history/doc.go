// Package history keeps past readings, thinned, for plots and exports without a cloud.
//
// A [Store] has a series for each quantity of a sensor. A series has three rings of points:
// 360 points of 10 seconds for an hour, 144 of 10 minutes for a day, 336 of 30 minutes for
// a week. A point has the mean, the least and the greatest of the values that were taken in
// its time. Points without values are not stored, so a ring of a sensor that is read seldom
// reaches further back. A series takes 13.4 KB of memory, whatever happens: [SeriesBytes].
//
// Points of the present boot are stored with the time since that boot, which no clock can
// spoil. They get their wall time when somebody asks. So whatever was taken before the clock
// was right has its right time as soon as the clock has, and a clock that steps moves all of
// them along.
package history
