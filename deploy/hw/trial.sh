#!/usr/bin/env bash
# trial.sh: tries test.sh without a board, against the emulated machine of deploy/vm over SSH
# (root). Its lines are gpio-sim's, its BME280 is i2c-sim's, and trial/wires.sh is the two wires.
#
#   ONLY="PART ..."  only these parts of the checks, and no reboot
#   KEEP=DIR         leave the reports and the machine's logs in DIR
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(realpath "$HERE/../..")
# shellcheck source=deploy/vm/guest/assert.sh
. "$HERE/../vm/guest/assert.sh"
section() { printf '\n# [%ss] %s\n' "$SECONDS" "$*"; }
die() {
	echo "FAILED: $*" >&2
	exit 1
}
[ "$(id -u)" = 0 ] || die "the test machine needs root"

WORK=$(mktemp -d)
MACHINE=''
# shellcheck disable=SC2317  # called by the trap
finish() {
	[ -z "$MACHINE" ] || kill "$MACHINE" 2>/dev/null
	if [ -n "${KEEP:-}" ]; then mkdir -p "$KEEP" && cp -r "$WORK"/*.txt "$WORK"/*.log "$WORK/machine/out" "$KEEP/" 2>/dev/null; fi
	rm -rf "$WORK"
}
trap finish EXIT
cd "$WORK" || exit 1
mkdir out # where assert.sh keeps what it counts

# machine: boots it, and waits until it can be reached
machine() {
	mkdir machine
	ssh-keygen -q -t ed25519 -N '' -C trial -f key
	ssh-keygen -q -t ed25519 -N '' -C trial -f machine/host.key
	cp key.pub machine/
	install -m 0755 "$HERE/trial/run.sh" "$HERE/trial/wires.sh" machine/
	PORT=$(shuf -i 20000-29999 -n 1)
	echo "[127.0.0.1]:$PORT $(cat machine/host.key.pub)" >known
	OPTIONS=(-o "Port=$PORT" -o "IdentityFile=$WORK/key" -o IdentitiesOnly=yes -o "UserKnownHostsFile=$WORK/known" -o StrictHostKeyChecking=yes)
	"$HERE/../vm/boot.sh" -s "$PORT" machine >boot.log 2>&1 &
	MACHINE=$!
	until board true 2>/dev/null; do
		kill -0 $MACHINE 2>/dev/null || die "the machine does not run: $(tail -3 boot.log)"
		[ "$SECONDS" -lt 600 ] || die "the machine cannot be reached: $(board true 2>&1)"
		sleep 2
	done
}
board() { ssh -n -o ConnectTimeout=30 "${OPTIONS[@]}" pi@127.0.0.1 "sudo sh -c '$1'"; }

# checks STATUS ARG...: test.sh ends with that status; what it prints is in said.log
checks() {
	local want=$1 got=0
	shift
	"$HERE/test.sh" "${OPTIONS[@]}" --package "$WORK/fieldpost.deb" "$@" pi@127.0.0.1 >said.log 2>&1 || got=$?
	cat said.log >>all.log
	same "it ends with status $want" "$want" "$got"
	[ "$want" = "$got" ] || tail -n 30 said.log | sed 's/^/    /'
}
says() { check "it says: $1" grep -qF -- "$1" said.log; }

# state: what is on the board. What stays by intent are the user and its groups, and what
# systemd and dpkg write down about any package.
state() {
	board 'find /etc /usr /opt /root /home /var/lib/fieldpost* /run/fieldpost* /run/systemd/system /run/*.log /run/*.yaml \
		! \( -path "/etc/*passwd*" -o -path "/etc/*group*" -o -path "/etc/*shadow*" -o -path "/etc/sub?id*" -o -path /etc -o -path "/usr/share*" -type d -o -path "/usr/lib*" -type d -o -path "/usr/bin" -o -path "/etc/systemd/system*" -type d -o -path /run/systemd/system \) \
		-printf "%p %M %u:%g %s %T@\n" 2>/dev/null | sort
		dpkg-query -W fieldpost 2>&1
		systemctl list-unit-files --no-legend "fieldpost*"; systemctl list-units --all --no-legend "fieldpost*"
		grep -h -A1 -E "gpio-[0-9]+ .*(GPIO22|GPIO23|GPIO24|GPIO27) " /sys/kernel/debug/gpio'
}
as_it_was() {
	state >state.after
	same "the board is as it was" '' "$(diff state.before state.after)"
}

package() {
	make -s -C "$REPO" cross-linux-arm64 BIN="$WORK/bin" >make.log 2>&1 || die "$(cat make.log)"
	VERSION=v0.0.1 SOURCE_DATE_EPOCH=$(git -C "$REPO" log -1 --format=%ct 2>/dev/null || date +%s) PACKAGES=deb:arm64 PROGRAMS=fieldpost \
		"$REPO/deploy/package/build.sh" packages bin/cross >make.log 2>&1 || die "$(cat make.log)"
	mv packages/fieldpost_*.deb fieldpost.deb
}

refusals() {
	section "a board where fieldpost is in use"
	board 'mkdir -p /etc/fieldpost && echo "thing: greenhouse" >/etc/fieldpost/fieldpost.yaml'
	state >state.before
	checks 3
	says "this board has a fieldpost of its own: /etc/fieldpost/fieldpost.yaml was edited"
	as_it_was
	board 'rm -r /etc/fieldpost'

	section "no wires, no BME280, no true clock"
	board 'touch /run/wires.cut; echo 0x76 >/sys/devices/platform/i2c-sim/deaf; adjtimex --status 64 >/dev/null'
	state >state.before
	checks 3
	says "GPIO27 (pin 13) does not follow GPIO22 (pin 15): no wire joins them"
	says "GPIO24 (pin 18) does not follow GPIO23 (pin 16): no wire joins them"
	says "no BME280 answers on i2c-1"
	says "the clock is not synchronised"
	as_it_was
	board 'rm /run/wires.cut; echo 0 >/sys/devices/platform/i2c-sim/deaf; adjtimex --status 0 --maxerror 0 --esterror 0 >/dev/null'

	section "a line in use"
	board 'systemd-run -q --unit=other gpiomon --consumer other GPIO24 2>/dev/null || systemd-run -q --unit=other gpiomon gpiochip1 24'
	state >state.before
	checks 3
	says "GPIO24 (pin 18) is in use"
	as_it_was
	board 'systemctl stop other'
}

# begin_checks ARG...: in the background, as TEST. A terminal sends Ctrl-C to all processes of a
# group, so they have one.
begin_checks() {
	setsid "$HERE/test.sh" "${OPTIONS[@]}" --package "$WORK/fieldpost.deb" "$@" pi@127.0.0.1 >said.log 2>&1 &
	TEST=$!
}

# until_pump_on REPORT: checks that have switched the pump on, in TEST
until_pump_on() {
	state >state.before
	begin_checks --report "$1" --only "orders stop"
	check "the pump goes on" within 240 grep -q '^ok .* pump on' said.log
}

power_cut() {
	section "a power cut while the checks run"
	local got=0
	until_pump_on cut.txt
	board 'systemd-run -q --on-active=1 sh -c "echo b >/proc/sysrq-trigger"'
	wait "$TEST" || got=$?
	same "it ends with status 1" 1 "$got"
	says "The board is as it was."
	check "the report says so" grep -q '^NOT FINISHED' cut.txt
	as_it_was
}

interrupt() {
	section "Ctrl-C before the checks begin"
	state >state.before
	begin_checks
	check "the board is examined" within 120 board 'test -e /var/lib/fieldpost-hw/out/scan.json'
	kill -TERM -- "-$TEST"
	wait "$TEST"
	same "it ends with status 130" 130 $?
	says "stopping; the board is put back as it was"
	as_it_was

	section "Ctrl-C while the checks run"
	until_pump_on interrupted.txt
	kill -TERM -- "-$TEST"
	wait "$TEST"
	same "it ends with status 130" 130 $?
	says "The board is as it was."
	check "the report says so" grep -q '^NOT FINISHED' interrupted.txt
	as_it_was
}

whole() {
	section "all checks"
	state >state.before
	checks 0 --report whole.txt "$@"
	says "The board is as it was."
	says "$(grep -m1 ' passed, 0 failed$' whole.txt)"
	as_it_was
	secret "the report has no key" 'BEGIN\|PRIVATE'
	secret "nor the name of the board" trial-board
	secret "nor an address of it" "10\.0\.2\.15\|$(board 'cat /sys/class/net/e*/address')"
	secret "nor its machine id" "$(board 'cat /etc/machine-id')"
	if [ -z "${ONLY:-}" ]; then check "it has the figures" grep -q 'PSS [0-9]' whole.txt; fi
}
secret() { same "$1" '' "$(grep -n -e "$2" whole.txt)"; }

package
machine
echo "# the machine can be reached after $SECONDS s"
refusals
interrupt
if [ -n "${ONLY:-}" ]; then
	whole --only "$ONLY"
else
	power_cut
	whole --reboot
fi
board 'touch /run/trial.over'
wait $MACHINE
MACHINE=''
summary
