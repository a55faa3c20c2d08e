# shellcheck shell=bash
# The local socket, for run.sh: members of the group fieldpost may, others may not.

SOCKET=/run/fieldpost/fieldpost.sock

# as somebody who is nobody else, in the group and not
member() { (cd / && setpriv --reuid nobody --regid nogroup --groups fieldpost "$@"); }
stranger() { (cd / && setpriv --reuid nobody --regid nogroup --clear-groups "$@"); }

# status_says FILTER: the status is told, and the jq filter is true for it
status_says() {
	local said
	said=$(member fieldpost status --json 2>/dev/null)
	jq -e "$1" <<<"$said"
}

# metrics_say LINE: the metrics at their address have this line
metrics_say() {
	local said
	exec 4<>/dev/tcp/127.0.0.1/9108 || return 1
	printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&4
	said=$(cat <&4)
	exec 4>&-
	grep -q "$1" <<<"$said" && return
	echo "$said"
	return 1
}

# metrics_address: they can be read at local.metrics, under the unit's limits
metrics_address() {
	check "anybody on the machine may read the metrics at their address" within 60 metrics_say '^fieldpost_link_connected 1'
	check "with the values" within 60 metrics_say "^fieldpost_reading{sensor=\"$SENSOR\",quantity=\"temperature\",unit=\"Cel\"} [0-9]"
}

# turned_away COMMAND...: it fails, with the group to join
turned_away() {
	local said
	said=$(stranger "$@" 2>&1) && return 1
	echo "$said"
	[[ $said == *'permission denied; join the group fieldpost'* ]]
}

local_socket() {
	section "the local socket"
	same "it is for fieldpost and its group" "fieldpost:fieldpost 660" "$(stat -c '%U:%G %a' "$SOCKET")"
	check "a member of the group is told the status" within 30 status_says ".thing == \"bench\" and .link.connected and (.sensors[] | select(.name == \"$SENSOR\") | .values.temperature)"
	check "with what is wrong" status_says '.faults[] | select(.subject == "ghost" and .code == "no_answer")'
	check "and the status for people" grep -q '^outputs$' <(member fieldpost status 2>/dev/null)
	check "a member may have a sensor read" member fieldpost read "$SENSOR"
	begin
	check "a member's order is answered with done" member fieldpost send --via local --wait 30s pump on --for 10m
	went 22 "0 1" "a member's order"
	check "its cause is the member" status_says '.outputs[] | select(.name == "pump") | .cause | startswith("local uid=65534(nobody) pid=")'
	check "which is told to the broker" within 10 message '.kind == "event" and .output == "pump" and (.cause | startswith("local uid=65534(nobody) pid="))'
	begin
	check "who is not in the group is not told the status" turned_away fieldpost status
	check "nor has a sensor read" turned_away fieldpost read "$SENSOR"
	check "nor may switch off" turned_away fieldpost send pump off
	went 22 "1" "the order of one who may not"
	check "a member may" member fieldpost send --via local --wait 30s pump off
	went 22 "1 0" "a member's order to the safe level"
}
