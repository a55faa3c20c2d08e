#!/usr/bin/env bash
# test.sh [-m raspi3b | -c] BINARY
#
# Installs fieldpost, built for linux/arm64, on the test machine by its deb, and runs
# guest/run.sh there; on a Pi as `make install` does, and runs guest/pi.sh. With -c it runs
# guest/cost.sh instead, which measures. Exit code 0: all passed.
#
#   KEEP=DIR    leave the payload, the machine's console and its journal in DIR
#   ONLY=PARTS  after the installation run only these functions of guest/*.sh: "counters board_tests"
set -euo pipefail
# shellcheck source=deploy/vm/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
REPO=$(realpath "$HERE/../..")

MACHINE=virt COST=''
while getopts m:c option; do
	case $option in
	m) MACHINE=$OPTARG ;;
	c) COST=yes ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -ne 1 ] || [ ! -f "$1" ]; then die "usage: $0 [-m raspi3b | -c] BINARY (built for linux/arm64)"; fi
[ "$(id -u)" = 0 ] || die "the test machine needs root"
BINARY=$(realpath "$1")
mkdir -p "$WORK"
need openssl openssl make make

if [ -n "${KEEP:-}" ]; then
	rm -rf "$KEEP"
	mkdir -p "$KEEP"
	PAYLOAD=$(realpath "$KEEP")
else
	PAYLOAD=$(mktemp -d "$WORK/payload.XXXXXX")
	trap 'rm -rf "$PAYLOAD"' EXIT
fi

# certificates DIR: a root, a certificate for the broker and one for the board,
# under the names that AWS's console gives them
certificates() {
	local dir=$1 who
	mkdir -p "$dir"
	openssl ecparam -name prime256v1 -genkey -noout -out "$dir/ca.key"
	openssl req -x509 -new -key "$dir/ca.key" -days 365 -subj "/CN=test root" -out "$dir/AmazonRootCA1.pem"
	printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' >"$dir/broker.ext"
	printf 'extendedKeyUsage=clientAuth\n' >"$dir/board.ext"
	for who in broker board; do
		openssl ecparam -name prime256v1 -genkey -noout -out "$dir/$who.key"
		openssl req -new -key "$dir/$who.key" -subj "/CN=$who" |
			openssl x509 -req -CA "$dir/AmazonRootCA1.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 365 \
				-extfile "$dir/$who.ext" -out "$dir/$who.crt" 2>/dev/null
	done
	mv "$dir/board.crt" "$dir/certificate.pem.crt"
	mv "$dir/board.key" "$dir/private.pem.key"
}

# hardware_tests FILE: the board room's tests against real devices, where it has some
hardware_tests() {
	grep -qsl '^//go:build.*\bhardware\b' "$REPO"/sensors/board/*_test.go || return 0
	(cd "$REPO" && CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go test -c -trimpath -tags hardware -o "$1" ./sensors/board)
}

# rehearsal FILE: fieldpost as it is, but that a loop of it can be made to hang or panic
rehearsal() { (cd "$REPO" && CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -trimpath -tags rehearsal -o "$1" ./cmd/fieldpost); }

# package VERSION BINARY: as a board gets it, into packages/
package() {
	mkdir -p "$PAYLOAD/bin"
	install -m 0755 "$2" "$PAYLOAD/bin/fieldpost-linux-arm64"
	VERSION=$1 SOURCE_DATE_EPOCH=$(git -C "$REPO" log -1 --format=%ct 2>/dev/null || date +%s) PACKAGES=deb:arm64 PROGRAMS=fieldpost \
		"$REPO/deploy/package/build.sh" "$PAYLOAD/packages-$1" "$PAYLOAD/bin" >/dev/null
}

install -m 0644 "$HERE"/guest/{assert,lines,trace,unit,install,mail,kernel,local,reload,credentials,counters,expander,pwm,drawer,pins,power,storage,package,figures}.sh "$HERE/guest/mosquitto.conf" "$PAYLOAD/"
certificates "$PAYLOAD/certs"
if [ -n "$COST" ]; then
	install -m 0755 "$HERE/guest/cost.sh" "$PAYLOAD/run.sh"
	package v0.0.1 "$BINARY"
elif [ "$MACHINE" = virt ]; then
	install -m 0755 "$HERE/guest/run.sh" "$PAYLOAD/run.sh"
	install -m 0644 "$HERE"/guest/{fieldpost,kernel}.yaml "$PAYLOAD/"
	install -m 0755 "$HERE"/guest/{mhz19,pms5003}.sh "$PAYLOAD/"
	# shellcheck disable=SC2016  # Markdown's own
	awk '/^## / {drawer = /^## A first drawer/} drawer && /^```yaml/ {yaml = 1; next} yaml && /^```/ {exit} yaml' \
		"$REPO/sensors/README.md" >"$PAYLOAD/drawer.yaml"
	[ -z "${ONLY:-}" ] || echo "$ONLY" >"$PAYLOAD/only"
	rehearsal "$PAYLOAD/rehearsal"
	package v0.0.1 "$BINARY"
	package v0.0.2 "$PAYLOAD/rehearsal"
	hardware_tests "$PAYLOAD/board.test"
else
	make -s -C "$REPO" install "DESTDIR=$PAYLOAD/tree" "BINARY=$BINARY"
	install -m 0755 "$HERE/guest/pi.sh" "$PAYLOAD/run.sh"
	install -m 0644 "$HERE/guest/pi.yaml" "$PAYLOAD/fieldpost.yaml"
fi
"$HERE/boot.sh" -m "$MACHINE" "$PAYLOAD"
