package metrics

import (
	"cmp"
	"slices"

	"fieldpost/daemon/api"
	"fieldpost/daemon/health"
	"fieldpost/sensors"
)

// Metrics are all metrics, in the order in which they are written.
var Metrics = []Metric{
	{"fieldpost_build_info", Gauge, "Always 1; the labels say which program runs.", []string{"version", "goversion"},
		func(s *Snapshot, emit emit) { emit(1, s.Status.Version, s.GoVersion) }},
	{"fieldpost_board_info", Gauge, "Always 1; the labels say which board this is.", []string{"thing", "board"},
		func(s *Snapshot, emit emit) { emit(1, s.Status.Thing, s.Status.Board) }},
	{"fieldpost_clock_synchronised", Gauge, "1 if the time is known to be true. 0: orders that energise are refused.", nil,
		func(s *Snapshot, emit emit) { emit(truth(s.Status.ClockSynced)) }},

	{"fieldpost_faults", Gauge, "Faults that are raised now, without those that another one explains.", []string{"severity"}, countFaults},
	{"fieldpost_fault", Gauge, "1 for each fault that is raised now. explained_by is the code of the fault that caused it, or empty.",
		[]string{"code", "subject", "severity", "explained_by"}, listFaults},

	{"fieldpost_reading", Gauge, "Last value of a sensor; true is 1. The unit is a UCUM code. Left out while the sensor cannot be read, so that an old value is not taken for a new one.",
		[]string{"sensor", "quantity", "unit"}, listReadings},
	{"fieldpost_sensor_info", Gauge, "Always 1; the labels say what the sensor is.", []string{"sensor", "chip", "bus"},
		eachSensor(func(x api.Sensor, emit emit) { emit(1, x.Name, x.Chip, x.Bus) })},
	{"fieldpost_sensor_reading_age_seconds", Gauge, "Time since the sensor's last reading or edge.", []string{"sensor"},
		eachSensor(func(x api.Sensor, emit emit) {
			if !x.Time.IsZero() {
				emit(x.Age, x.Name)
			}
		})},
	{"fieldpost_sensor_failed_reads_total", Counter, "Scheduled reads that failed, each after a second attempt.", []string{"sensor"},
		eachSensor(func(x api.Sensor, emit emit) { emit(float64(x.FailedReads), x.Name) })},

	{"fieldpost_output_on", Gauge, "1 if the output is on. Left out if the daemon has never had its line.", []string{"output"},
		eachOutput(func(x api.Output, emit emit) {
			if x.State != "" {
				emit(truth(x.State == "on"), x.Name)
			}
		})},
	{"fieldpost_output_level_ratio", Gauge, "Level of a PWM output, from 0 to 1; where a ramp leads. Other outputs have none.", []string{"output"},
		eachOutput(func(x api.Output, emit emit) {
			if x.Level != nil {
				emit(*x.Level/100, x.Name)
			}
		})},
	{"fieldpost_output_usable", Gauge, "0 if the output's line cannot be driven, or its level cannot be trusted.", []string{"output"},
		eachOutput(func(x api.Output, emit emit) { emit(truth(x.Error == ""), x.Name) })},
	{"fieldpost_output_state_age_seconds", Gauge, "Time since the output got the level that it has.", []string{"output"},
		eachOutput(func(x api.Output, emit emit) {
			if x.State != "" {
				emit(x.For, x.Name)
			}
		})},
	{"fieldpost_output_refresh_lost_total", Counter, "How often the output was made safe because no order came within refresh.", []string{"output"},
		eachOutput(func(x api.Output, emit emit) { emit(float64(x.RefreshLost), x.Name) })},

	{"fieldpost_orders_total", Counter, "Orders by outcome: done, refused, failed (also those whose result is unknown), repeated (answered as before).", []string{"outcome"},
		func(s *Snapshot, emit emit) {
			o := s.Status.Orders
			emit(float64(o.Done), "done")
			emit(float64(o.Refused), "refused")
			emit(float64(o.Failed), "failed")
			emit(float64(o.Again), "repeated")
		}},
	{"fieldpost_orders_unanswered_total", Counter, "Orders, refused or repeated, that were not answered one by one because there were too many.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Orders.Unanswered)) }},
	{"fieldpost_orders_ignored_messages_total", Counter, "Messages that were no orders for this board, and messages on other topics.", []string{"reason"},
		func(s *Snapshot, emit emit) {
			emit(float64(s.Status.Orders.Passed), "no_order")
			emit(float64(s.Status.Orders.Elsewhere), "other_topic")
		}},

	{"fieldpost_link_connected", Gauge, "1 while the daemon is connected to its broker.", nil,
		func(s *Snapshot, emit emit) { emit(truth(s.Status.Link.Connected)) }},
	{"fieldpost_link_state_age_seconds", Gauge, "Time since the connection came up or was lost.", nil,
		func(s *Snapshot, emit emit) { emit(s.Status.Link.For) }},
	{"fieldpost_link_connections_total", Counter, "Connections to the broker that were made.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Link.Connects)) }},
	{"fieldpost_link_attempts", Gauge, "Attempts to connect since the last connection; 0 while connected.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Link.Attempts)) }},
	{"fieldpost_link_denied_subscriptions", Gauge, "Subscriptions that the broker does not allow.", nil,
		func(s *Snapshot, emit emit) { emit(float64(len(s.Status.Link.Denied))) }},
	{"fieldpost_link_acknowledged_messages_total", Counter, "Messages that the broker has acknowledged; a batch is one.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Link.Acknowledged)) }},
	{"fieldpost_link_sessions_lost_total", Counter, "How often the broker lost the session, and with it any orders that it had stored.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Link.SessionsLost)) }},
	{"fieldpost_link_dropped_messages_total", Counter, "Messages from the broker that were too large, or for which there was no room.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Link.Dropped)) }},
	{"fieldpost_certificate_expiry_timestamp_seconds", Gauge, "When the board's certificate expires. Left out if there is none, or if it cannot be read.", nil,
		func(s *Snapshot, emit emit) {
			if c := s.Status.Certificate; !c.Expires.IsZero() {
				emit(float64(c.Expires.Unix()))
			}
		}},

	{"fieldpost_spool_writable", Gauge, "0 if the spool's disk cannot be written.", nil,
		func(s *Snapshot, emit emit) { emit(truth(s.Status.Spool.Writable)) }},
	{"fieldpost_spool_waiting_records", Gauge, "Records that the broker has not acknowledged.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.Waiting)) }},
	{"fieldpost_spool_at_risk_records", Gauge, "How many of those a power cut would lose now.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.AtRisk)) }},
	{"fieldpost_spool_oldest_age_seconds", Gauge, "Age of the oldest waiting record; 0 if none waits, or if it is unknown.", nil,
		func(s *Snapshot, emit emit) { emit(s.Status.Spool.Oldest) }},
	{"fieldpost_spool_size_bytes", Gauge, "Size of the spool on disk.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.Bytes)) }},
	{"fieldpost_spool_max_size_bytes", Gauge, "Size from which on the oldest records are dropped.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.MaxBytes)) }},
	{"fieldpost_spool_acknowledged_records_total", Counter, "Records that the broker has acknowledged.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.Acked)) }},
	{"fieldpost_spool_dropped_records_total", Counter, "Records that were dropped, because of their age or a full spool.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.Dropped)) }},
	{"fieldpost_spool_refused_records_total", Counter, "Records that were set aside because the broker does not take them.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.Refused)) }},
	{"fieldpost_spool_gaps_total", Counter, "Gap messages that were recorded: readings that were or may have been lost.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Spool.Gaps)) }},

	{"process_start_time_seconds", Gauge, "When the daemon started, by the clock as it is now.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Status.Started.UnixMilli()) / 1000) }},
	{"process_cpu_seconds_total", Counter, "User and system CPU time of the process.", nil,
		ofProcess(func(p Process) float64 { return p.CPU.Seconds() })},
	{"process_resident_memory_bytes", Gauge, "Resident memory of the process.", nil,
		ofProcess(func(p Process) float64 { return float64(p.Resident) })},
	{"process_open_fds", Gauge, "Open file descriptors of the process.", nil,
		ofProcess(func(p Process) float64 { return float64(p.Files) })},
	{"go_goroutines", Gauge, "Goroutines of the process.", nil,
		func(s *Snapshot, emit emit) { emit(float64(s.Process.Goroutines)) }},
}

func eachSensor(sample func(api.Sensor, emit)) func(*Snapshot, emit) {
	return func(s *Snapshot, emit emit) {
		for _, x := range s.Status.Sensors {
			sample(x, emit)
		}
	}
}

func eachOutput(sample func(api.Output, emit)) func(*Snapshot, emit) {
	return func(s *Snapshot, emit emit) {
		for _, x := range s.Status.Outputs {
			sample(x, emit)
		}
	}
}

// ofProcess is a metric of the process, where the system tells.
func ofProcess(value func(Process) float64) func(*Snapshot, emit) {
	return func(s *Snapshot, emit emit) {
		if s.Process.Known {
			emit(value(s.Process))
		}
	}
}

func severity(f api.Fault) string {
	if f.Error {
		return "error"
	}
	return "warning"
}

func countFaults(s *Snapshot, emit emit) {
	n := map[string]int{}
	for _, f := range s.Status.Faults {
		if f.Because == nil {
			n[severity(f)]++
		}
	}
	for _, of := range []string{"error", "warning"} {
		emit(float64(n[of]), of)
	}
}

func listFaults(s *Snapshot, emit emit) {
	for _, f := range s.Status.Faults {
		by := ""
		if f.Because != nil {
			by = f.Because.Code
		}
		emit(1, f.Code, f.Subject, severity(f), by)
	}
}

// readFaults are the faults with which a sensor's last value is not its present one.
var readFaults = health.Codes(health.Reading)

func listReadings(s *Snapshot, emit emit) {
	for _, x := range s.Status.Sensors {
		if slices.ContainsFunc(x.Faults, func(code string) bool { return slices.Contains(readFaults, health.Code(code)) }) {
			continue
		}
		for _, v := range x.Values {
			if value, ok := numeric(v.Value); ok {
				emit(value, x.Name, v.Name, unitOf(x, v.Name))
			}
		}
	}
}

// numeric returns a field's value as a number. A text has none.
func numeric(v any) (x float64, ok bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case bool:
		return truth(v), true
	}
	return 0, false
}

// unitOf returns the UCUM code of a sensor's value; "" of a truth value.
func unitOf(x api.Sensor, name string) string {
	chip, _ := sensors.Lookup(x.Chip)
	unit := ""
	for _, q := range chip.Quantities {
		if q.Is(name) {
			unit = q.Unit
			break
		}
	}
	return cmp.Or(x.Units[name], unit)
}
