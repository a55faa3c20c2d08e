# shellcheck shell=bash
# The configuration file is changed under the running daemon, for run.sh.

# cursor: the journal's last entry of the unit; logged_after CURSOR WORDS: what came later has them
cursor() { journalctl -u "$UNIT" -n 1 -o cat --show-cursor | sed -n 's/^-- cursor: //p'; }
logged_after() {
	local said
	said=$(journalctl -u "$UNIT" -o cat --no-pager --after-cursor "$1")
	shows "$2" "$said"
}

# shows WORDS TEXT: the text has the words, or else it is printed
shows() {
	[[ $2 != *"$1"* ]] || return 0
	echo "$2"
	return 1
}

# edit SCRIPT: has the configuration as it was before the tests of reload, and edited by sed
edit() { sed "$1" /run/unchanged.yaml >"$CONFIG"; }

# says WORDS COMMAND...: the command succeeds and prints them
says() {
	local words=$1 said
	shift
	if ! said=$("$@" 2>&1); then
		echo "$said"
		return 1
	fi
	shows "$words" "$said"
}

# refuses WORDS COMMAND...: the command ends with status 78 and prints them
refuses() {
	local words=$1 said status
	shift
	said=$("$@" 2>&1)
	status=$?
	if [ "$status" != 78 ]; then
		echo "status $status: $said"
		return 1
	fi
	shows "$words" "$said"
}

# goes_on PID RUN WHAT: the same process and the same run of the spool, and no line has an edge
goes_on() {
	same "$3: it is the same process" "$1" "$(pid)"
	same "$3: it is active" active "$(systemctl is-active "$UNIT")"
	same "$3: no run has begun" "$2" "$(last_run)"
	went 22 "1" "$3"
	went 23 "1" "$3"
}

reload() {
	section "the configuration is reloaded"
	local before run at
	cp "$CONFIG" /run/unchanged.yaml
	pump_on
	before=$(pid) run=$(last_run)
	edit 's/every: 1s/every: 2s/'
	check "diff says what would change" says "sensor $SENSOR: changed" member fieldpost diff
	at=$(cursor)
	check "it is reloaded with another period of a sensor" timeout 100 systemctl reload "$UNIT"
	check "the journal says so" within 10 logged_after "$at" 'configuration swapped'
	goes_on "$before" "$run" "reloaded"
	check "diff says that nothing would change" says 'would change nothing' member fieldpost diff

	wrong_reload "$before" "$run"

	edit ''
	begin
	at=$(cursor)
	systemctl kill -s HUP --kill-whom=main "$UNIT"
	check "SIGHUP reloads" within 30 logged_after "$at" 'configuration swapped'
	goes_on "$before" "$run" "reloaded by SIGHUP"
	check "an order is carried out" order pump off --wait 30s
	went 22 "1 0" "an order after all that"
	same "no reading of any run is missing" '[]' "$(missing)"
}

# wrong_reload PID RUN: a wrong configuration is refused whole
wrong_reload() {
	local at words='unknown key "nonsense"'
	edit 's/every: 1s/every: 3s/'
	echo 'nonsense: true' >>"$CONFIG"
	begin
	at=$(cursor)
	check "systemctl reload fails with a wrong configuration" fails timeout 100 systemctl reload "$UNIT"
	check "the journal has the problem" within 10 logged_after "$at" "$words"
	check "so has systemctl status" says "$words" systemctl status --no-pager -l -n 20 "$UNIT"
	check "fieldpost reload prints it, with the line" refuses "$CONFIG:$(wc -l <"$CONFIG"): $words" member fieldpost reload
	check "so does fieldpost diff" refuses "$words" member fieldpost diff
	check "who is not in the group may not reload" turned_away fieldpost reload
	mv "$CONFIG" /run/away.yaml
	check "systemctl reload fails without a configuration" fails timeout 100 systemctl reload "$UNIT"
	mv /run/away.yaml "$CONFIG"
	goes_on "$1" "$2" "refused"
}
