# shellcheck shell=bash
# The unit under test, and the broker that it talks to.

UNIT=fieldpost
CONFIG=/etc/fieldpost/fieldpost.yaml
# the sensor that is read every second, whose readings are counted
SENSOR=${SENSOR:-soil}
# the unit of the broker
BROKER=${BROKER:-broker}

property() { systemctl show -P "$1" "$UNIT"; }
pid() { property MainPID; }
is_state() { [ "$(systemctl is-active "$UNIT")" = "$1" ]; }
order() { fieldpost send --via mqtt -c "$CONFIG" "$@"; }
journal_has() { [ -n "$(journalctl -u "$UNIT" -o cat "$@")" ]; }

# give_up WHY: without this nothing that follows makes sense
give_up() {
	echo "# giving up: $1"
	show_journal
	summary
	exit 1
}
show_journal() { journalctl -u "$UNIT" -u "$BROKER" -p notice -n 60 --no-pager -o short-monotonic | sed 's/^/    /'; }

start_broker() { systemd-run -q --unit="$BROKER" --collect -p StateDirectory=broker mosquitto -c /payload/mosquitto.conf; }
stop_broker() { systemctl stop "$BROKER"; }
broker_listens() { ss -Hltn 'sport = :8883' | grep -q .; }

# a subscriber that is not fieldpost, with a session of its own at the broker
start_watcher() {
	systemd-run -q --unit=watch --collect -p Restart=always -p RestartSec=1 -p StandardOutput=append:/run/watch.log \
		stdbuf -oL mosquitto_sub -h 127.0.0.1 -p 8883 --cafile /payload/certs/AmazonRootCA1.pem \
		--cert /payload/certs/certificate.pem.crt --key /payload/certs/private.pem.key \
		-i watcher -c -q 1 -t 'field/bench'
}
