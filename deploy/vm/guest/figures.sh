# shellcheck shell=bash
# What the installed unit costs.

# in_memory NAME: KB of the daemon's memory, proc_pid_smaps(5)
in_memory() { awk -v name="$1:" '$1 == name {print $2}' "/proc/$(pid)/smaps_rollup"; }
written() { awk '$1 == "write_bytes:" {print $2}' "/proc/$(pid)/io"; }
processor() { property CPUUsageNSec; }

# measure SECONDS WHAT
measure() {
	local cpu disk
	cpu=$(processor) disk=$(written)
	sleep "$1"
	printf '# %s: PSS %s KB (aim: 10000), RSS %s KB, anonymous %s KB; %s ms CPU and %s bytes written in %s s\n' "$2" \
		"$(in_memory Pss)" "$(in_memory Rss)" "$(in_memory Anonymous)" "$((($(processor) - cpu) / 1000000))" "$(($(written) - disk))" "$1"
}
