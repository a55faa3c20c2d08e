#!/usr/bin/env bash
# prepare.sh [installed]: is this board one that may be tested, and is the hardware there?
# Run as root. It prints each reason against it and ends with 3; then it has changed nothing.
# Otherwise it begins the checks, which go on by themselves.
set -uo pipefail
# shellcheck source=deploy/hw/board/place.sh
. "$(dirname "$0")/place.sh"
umask 077
mkdir -p out
exec 9>out/lock && flock 9 # for stop.sh
installed=${1:-}
reasons=0
refuse() {
	reasons=$((reasons + 1))
	printf -- '- %s\n' "$@"
}
found() { printf '%s\n' "$1" >>out/facts; }

# own_fieldpost: what shows that somebody uses fieldpost on this board
own_fieldpost() {
	local file
	! systemctl -q is-active fieldpost || echo "it is running"
	! systemctl -q is-enabled fieldpost 2>/dev/null || echo "it is enabled"
	if [ -e /etc/fieldpost/fieldpost.yaml ] && ! cmp -s /etc/fieldpost/fieldpost.yaml starter.yaml && ! as_packaged; then
		echo "/etc/fieldpost/fieldpost.yaml was edited"
	fi
	for file in /etc/fieldpost/certs /var/lib/fieldpost; do
		[ -z "$(ls -A "$file" 2>/dev/null)" ] || echo "there are files in $file"
	done
	for file in /etc/systemd/system/fieldpost.service /etc/systemd/system/fieldpost.service.d /run/systemd/system/fieldpost.service.d; do
		[ ! -e "$file" ] || echo "there is $file"
	done
}

# as_packaged: is the configuration the one that came with the installed package?
as_packaged() {
	dpkg-query -W -f '${Conffiles}\n' fieldpost 2>/dev/null | grep -q "/etc/fieldpost/fieldpost.yaml $(md5sum </etc/fieldpost/fieldpost.yaml | cut -d' ' -f1)"
}

system_fits() {
	local command version
	for command in systemctl systemd-run journalctl dpkg setpriv ss awk cmp flock sed tar; do
		command -v "$command" >/dev/null || refuse "the command $command is missing; the checks need Debian or Raspberry Pi OS"
	done
	[ -d /run/systemd/system ] || refuse "systemd does not run here"
	version=$(systemctl --version | awk 'NR == 1 {print $2}')
	[ "${version%%[!0-9]*}" -ge 252 ] 2>/dev/null || refuse "systemd $version is older than 252, of Debian 12; fieldpost needs that"
	[ -x /usr/lib/systemd/systemd-socket-proxyd ] || refuse "/usr/lib/systemd/systemd-socket-proxyd is missing"
	[ "$(df -Pk . | awk 'NR == 2 {print $4}')" -ge 102400 ] || refuse "less than 100 MB are free in $PWD"
	bin/fieldpost-hw clock || refuse "the clock is not synchronised; orders need that: wait for NTP (timedatectl) and run this again"
	[ -z "$(ss -Hltn "sport = :$BROKER_PORT or sport = :$WAY_PORT")" ] || refuse "another program listens on port $BROKER_PORT or $WAY_PORT of 127.0.0.1"
}

package_fits() {
	local version
	version=$(dpkg-query -W -f '${db:Status-Status} ${Version}' fieldpost 2>/dev/null)
	case $version in
	'installed '*)
		if [ "$installed" != installed ]; then
			refuse "fieldpost ${version#* } is installed. Remove it (sudo apt remove fieldpost), or check that one with --installed"
		fi
		;;
	*)
		[ "$installed" != installed ] || refuse "fieldpost is not installed, but --installed was given"
		[ ! -e /usr/bin/fieldpost ] || refuse "/usr/bin/fieldpost is there and belongs to no package. Remove it"
		;;
	esac
}

# bme280: finds the BME280, and an address where nothing answers
bme280() {
	local found_there address
	modprobe -q i2c-dev
	if [ ! -e /dev/i2c-1 ]; then
		refuse "there is no /dev/i2c-1. Enable I2C: dtparam=i2c_arm=on in config.txt, or sudo raspi-config nonint do_i2c 0; then reboot"
		return
	fi
	"$FIELDPOST" scan --json >out/scan.json 2>out/scan.err || refuse "fieldpost scan fails: $(cat out/scan.err)"
	address=$(jq -r '.i2c_buses[]? | select(.name == "i2c-1") | .found[]? | select(.chip == "bme280") | .address' out/scan.json | head -n 1)
	if [ -z "$address" ]; then
		found_there=$(jq -r '.i2c_buses[]? | select(.name == "i2c-1") | .problem // empty, (.found[]? | "\(.address): \(.chip // "unknown")")' out/scan.json | paste -sd, -)
		refuse "no BME280 answers on i2c-1 (${found_there:-nothing does}). Check its four wires: 3.3 V, GND, SDA to pin 3, SCL to pin 5"
		return
	fi
	found "bme280=$(printf '0x%02x' "$address")"
	for address in 73 74 75 72; do
		jq -e ".i2c_buses[] | select(.name == \"i2c-1\") | all(.found[]?; .address != $address)" out/scan.json >/dev/null || continue
		found "silent=$(printf '0x%02x' "$address")"
		return
	done
	refuse "every address from 0x48 to 0x4b of i2c-1 answers; one must be free"
}

wires() {
	local said
	if said=$(bin/fieldpost-hw wires "${WIRES[@]}" 2>&1); then
		found "$said"
		return
	fi
	while read -r line; do refuse "$line"; done <<<"$said"
	echo "  (README.md of deploy/hw has a drawing of the two wires)"
}

# back_up: everything that fieldpost has on this board, with owners, modes and times
back_up() {
	local file files=()
	for file in /etc/fieldpost /var/lib/fieldpost /usr/bin/fieldpost; do
		[ ! -e "$file" ] || files+=("${file#/}")
	done
	for file in "${files[@]}"; do echo "$file"; done | tar -C / -H posix -cpf backup.tar -T - && sync -f backup.tar
}

begin_checks() {
	[ ! -e out/cancelled ] || exit 3
	cat >"/etc/systemd/system/$CHECKS" <<-U
		[Unit]
		Description=Checks of fieldpost on this hardware; restores the board when they end
		# not After=fieldpost.service: restore.sh, which stops that, would wait for itself
		After=network.target
		CollectMode=inactive-or-failed
		[Service]
		Type=exec
		ExecStart=$HERE/run.sh
		ExecStopPost=$HERE/restore.sh
		StandardOutput=append:$HERE/out/run.log
		StandardError=append:$HERE/out/run.log
		RuntimeMaxSec=45min
		TimeoutStopSec=5min
		[Install]
		WantedBy=multi-user.target
	U
	echo start >out/phase
	systemctl daemon-reload
	# on the disk before anything is changed: at the next boot it restores the board
	systemctl enable -q "$CHECKS" && sync -f /etc/systemd/system && systemctl start "$CHECKS"
}

rm -f out/facts
own=$(own_fieldpost)
if [ -n "$own" ]; then
	refuse "this board has a fieldpost of its own: $(paste -sd ';' <<<"$own" | sed 's/;/; /g'). These checks kill the daemon and switch pins. Use another board, or an SD card with a fresh system"
	exit 3 # its pins and its bus are not to be touched
fi
system_fits
package_fits
bme280
wires
[ "$reasons" = 0 ] || exit 3

found "installed=${installed:-no}"
back_up || {
	refuse "cannot back up: is the disk full?"
	exit 3
}
begin_checks
