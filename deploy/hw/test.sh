#!/usr/bin/env bash
# test.sh [OPTION...] [USER@]HOST
#
# Checks fieldpost on a real board over SSH: a Raspberry Pi with two jumper wires and a BME280,
# wired as README.md draws it. It needs nothing of the board but Debian or Raspberry Pi OS, SSH
# and sudo. It refuses a board where fieldpost is in use, and puts the board back as it was,
# also after Ctrl-C or a lost connection. Afterwards it prints a report to send in.
#
#   --package FILE.deb   check this package, instead of one built from this tree
#   --installed          check fieldpost as it is installed, with the starter configuration
#   --only "PART ..."    only these parts, such as "crash reload"; any other word lists them
#   --reboot             reboot the board, too
#   --report FILE        where the report goes (fieldpost-hw-report.txt)
#   -o OPTION            an option for ssh, such as -o Port=2222; may be repeated
#
# Exit status: 0 all passed, 1 some failed, 2 wrong usage, 3 refused (nothing was changed),
# 4 the connection or the board was lost, 130 interrupted.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(realpath "$HERE/../..")
GO=${GO:-go}
GOJQ=${GOJQ:-github.com/itchyny/gojq/cmd/gojq@v0.12.17}
PLACE=/var/lib/fieldpost-hw # on the board
PARTS="readings orders steady outage crash local reload edges stop figures upgrade hang panics configuration frozen remove"

exec 3>&2 # a trap runs with the redirections of the command that it interrupts
say() { printf '%s\n' "$*" >&3; }
die() { # STATUS WORDS
	say "$2"
	exit "$1"
}
usage() {
	sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | head -n "${1:-100}" >&2
	exit 2
}

PACKAGE='' INSTALLED='' ONLY='' REBOOT='' REPORT=fieldpost-hw-report.txt HOST=''
SSH=(ssh -o ServerAliveInterval=10 -o ServerAliveCountMax=6)
while [ $# -gt 0 ]; do
	case $1 in
	--package | --only | --report | -o)
		[ $# -ge 2 ] || usage 1
		case $1 in
		--package) PACKAGE=$(realpath "$2") ;;
		--only) ONLY=$2 ;;
		--report) REPORT=$2 ;;
		-o) SSH+=(-o "$2") ;;
		esac
		shift
		;;
	--installed) INSTALLED=installed ;;
	--reboot) REBOOT=yes ;;
	-*) usage ;;
	*)
		[ -z "$HOST" ] || usage 1
		HOST=$1
		;;
	esac
	shift
done
[ -n "$HOST" ] || usage
[ -z "$PACKAGE" ] || [ -f "$PACKAGE" ] || die 2 "$PACKAGE is not there"
[ -z "$PACKAGE" ] || [ -z "$INSTALLED" ] || die 2 "--package and --installed exclude each other"
for part in $ONLY; do
	[[ " $PARTS " = *" $part "* ]] || die 2 "--only $part: want some of $PARTS"
done
for command in ssh tar "$GO"; do command -v "$command" >/dev/null || die 2 "$command is not there"; done

WORK=$(mktemp -d)
STATE=before # sent, begun
# One connection for all, so that a password is asked for once.
SSH+=(-o ControlMaster=auto -o "ControlPath=$WORK/ssh" -o ControlPersist=120)

# as_root COMMAND: on the board; its input is this one's
as_root() {
	case $SUDO in
	none) "${SSH[@]}" "$HOST" "$1" ;;
	free) "${SSH[@]}" "$HOST" "sudo -n sh -c $(quoted "$1")" ;;
	password) { printf '%s\n' "$PASSWORD" && cat; } | "${SSH[@]}" "$HOST" "sudo -k -S -p '' sh -c $(quoted "$1")" ;;
	esac
}
quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# clean: whatever happens, the board is left alone with what is needed to restore itself
# shellcheck disable=SC2317  # called by the traps
clean() {
	trap - EXIT INT TERM HUP
	if [ $STATE = sent ]; then as_root "rm -rf $PLACE" </dev/null || true; fi
	"${SSH[@]}" -O exit "$HOST" 2>/dev/null || true
	rm -rf "$WORK"
}
# shellcheck disable=SC2317
interrupted() {
	trap '' INT TERM HUP
	if [ $STATE = begun ]; then
		say "stopping; the board is put back as it was. Wait for it"
		if ! as_root "$PLACE/stop.sh" </dev/null; then
			say "the board does not answer. It puts itself back when the checks end, and leaves its report in $PLACE"
		elif fetch_report; then
			sed -n '/^== the board afterwards/,/^== the journal/{/^==/d;p}' "$REPORT" >&3
		else
			say "nothing had begun"
			STATE=sent
		fi
	fi
	clean
	exit 130
}
trap clean EXIT
trap interrupted INT TERM HUP

# connect: sets SUDO, and PASSWORD where sudo wants one
connect() {
	"${SSH[@]}" "$HOST" true </dev/null || die 4 "ssh $HOST does not work"
	if [ "$("${SSH[@]}" "$HOST" 'id -u' </dev/null)" = 0 ]; then
		SUDO=none
	elif "${SSH[@]}" "$HOST" 'sudo -n true' </dev/null 2>/dev/null; then
		SUDO=free
	else
		SUDO=password
		[ -t 0 ] || die 4 "sudo on $HOST wants a password, and here is no terminal to ask for it"
		read -rsp "password of sudo on $HOST: " PASSWORD </dev/tty
		echo >&2
		as_root true </dev/null || die 4 "sudo on $HOST does not work"
	fi
	ARCH=$("${SSH[@]}" "$HOST" 'dpkg --print-architecture' </dev/null) || die 3 "$HOST has no dpkg; the checks need Debian or Raspberry Pi OS"
	case $ARCH in
	arm64 | amd64 | riscv64) CPU=$ARCH GOARCH=$ARCH GOARM='' ;;
	armhf) CPU=armv6 GOARCH=arm GOARM=6 ;;
	*) die 3 "$HOST has the architecture $ARCH, for which there is no package" ;;
	esac
}

# build PACKAGE TO FLAG...: one of this tree's programs for the board
build() {
	(cd "$REPO" && CGO_ENABLED=0 GOOS=linux GOARCH=$GOARCH GOARM=$GOARM "$GO" build -trimpath -ldflags "-s -w" -o "$2" "${@:3}" "./cmd/$1")
}

# payload DIR: all that the board needs
payload() {
	local to=$1 gopath modules
	say "building for $ARCH"
	mkdir -p "$to/bin" "$WORK/bin"
	install -m 0755 "$HERE"/board/*.sh "$to/"
	install -m 0644 "$REPO"/deploy/vm/guest/{assert,lines,trace,unit,install,package,mail,local,reload,pins,power,figures}.sh "$HERE/board/fieldpost.yaml" "$to/"
	cp "$REPO/configs/fieldpost.yaml" "$to/starter.yaml"
	build fieldpost-hw "$to/bin/fieldpost-hw"
	gopath=$WORK/gopath modules=$("$GO" env GOMODCACHE)
	(cd "$WORK" && CGO_ENABLED=0 GOOS=linux GOARCH=$GOARCH GOARM=$GOARM GOPATH=$gopath GOMODCACHE=$modules "$GO" install -trimpath "$GOJQ") ||
		die 2 "cannot build $GOJQ"
	install -m 0755 "$(find "$gopath/bin" -name gojq)" "$to/bin/jq"
	if [ -n "$PACKAGE" ]; then
		cp "$PACKAGE" "$to/fieldpost.deb"
	else
		make -s -C "$REPO" "cross-linux-$CPU" GO="$GO" BIN="$WORK/make" >/dev/null
		VERSION=$(git -C "$REPO" describe --tags --always 2>/dev/null || echo devel) SOURCE_DATE_EPOCH=$(git -C "$REPO" log -1 --format=%ct 2>/dev/null || date +%s) \
			GO=$GO PACKAGES=deb:$ARCH:$CPU PROGRAMS=fieldpost "$REPO/deploy/package/build.sh" "$WORK/packages" "$WORK/make/cross" >/dev/null
		cp "$WORK"/packages/fieldpost_*.deb "$to/fieldpost.deb"
	fi
	[ -n "$INSTALLED" ] || build fieldpost "$to/rehearsal" -tags rehearsal
	[ -z "$ONLY" ] || echo "$ONLY" >"$to/only"
	[ -z "$REBOOT" ] || touch "$to/reboot"
}

# send DIR: to the board, where nothing of an earlier run may be left
send() {
	local left
	left=$(as_root "systemctl is-active fieldpost-hw.service; ls $PLACE/report.txt $PLACE/out/phase 2>/dev/null" </dev/null || true)
	case $left in
	active* | activating* | deactivating*) die 3 "the checks run on $HOST already. To end them: sudo systemctl stop fieldpost-hw" ;;
	*report.txt*)
		say "saving the report of an earlier run, whose connection was lost"
		fetch_report
		mv "$REPORT" "$REPORT.earlier"
		;;
	*phase*) die 3 "an earlier run has left $PLACE on $HOST. To put the board back as it was: sudo $PLACE/restore.sh" ;;
	esac
	tar -C "$1" -czf "$WORK/payload.tar.gz" .
	# who else begins at this moment has made it just now
	as_root "test ! -e $PLACE || test -n \"\$(find $PLACE -maxdepth 0 -mmin +5)\"" </dev/null || die 3 "somebody has begun checks on $HOST a moment ago; wait five minutes"
	STATE=sent
	as_root "rm -rf $PLACE && mkdir -m 0700 $PLACE && tar -xz -C $PLACE --no-same-owner && dpkg-deb -x $PLACE/fieldpost.deb $PLACE/package" <"$WORK/payload.tar.gz" ||
		die 4 "cannot copy the checks to $HOST"
}

# begin: refuses, or starts the checks
begin() {
	local status=0
	STATE=begun # perhaps; who interrupts it cannot know
	as_root "$PLACE/prepare.sh $INSTALLED" </dev/null >"$WORK/prepare" 2>&1 || status=$?
	case $status in
	0)
		say "the checks run; Ctrl-C ends them and puts the board back as it was"
		;;
	3)
		STATE=sent
		say "$HOST is not tested, and nothing on it was changed:"
		cat "$WORK/prepare" >&2
		exit 3
		;;
	*)
		cat "$WORK/prepare" >&2
		as_root "$PLACE/stop.sh" </dev/null || true
		die 4 "the checks could not be started"
		;;
	esac
}

# follow: prints the log until the checks are over, over a lost connection and a reboot
follow() {
	local lines deadline=$((SECONDS + 600))
	: >"$WORK/log"
	while :; do
		lines=$(wc -l <"$WORK/log")
		# in the background, because a signal ends `wait` at once
		{ as_root "$PLACE/follow.sh $lines" </dev/null 2>"$WORK/follow.err" || echo $? >"$WORK/status"; } | tee -a "$WORK/log" &
		wait $!
		[ -s "$WORK/status" ] || return 0
		rm "$WORK/status"
		[ "$(wc -l <"$WORK/log")" = "$lines" ] || deadline=$((SECONDS + 600))
		[ $SECONDS -lt $deadline ] || die 4 "$HOST does not answer. The checks go on there by themselves, and put it back as it was; their report will be in $PLACE"
		sleep 3
	done
}

fetch_report() {
	as_root "cat $PLACE/report.txt" </dev/null >"$WORK/report" && [ -s "$WORK/report" ] || return 1
	cp "$WORK/report" "$REPORT"
	as_root "rm -rf $PLACE" </dev/null
	STATE=over
}

connect
payload "$WORK/payload"
send "$WORK/payload"
begin
follow
fetch_report || die 4 "$HOST has no report"
say ""
sed -n '/^== the board afterwards/,/^== the journal/{/^==/d;p}' "$REPORT" >&3
say "$(sed -n 3p "$REPORT"); the report is $REPORT. It has no keys, names or addresses; please send it in"
grep -q '^[0-9]* passed, 0 failed$' "$REPORT" || exit 1
