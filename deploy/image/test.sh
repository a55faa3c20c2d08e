#!/usr/bin/env bash
# test.sh BINDIR: the image is the same bytes each time, every hash in it is right, and what is in
# it runs as its user: the demo, and the broker with both client commands
#
# Only root can run it (chroot and mount namespaces); otherwise that is left out, and said. Where
# there is skopeo, it must understand the image too.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# In namespaces of its own: its port is free, and nothing that it starts outlives it.
if [ "$(id -u)" = 0 ] && [ -z "${FIELDPOST_IMAGE_TEST:-}" ] && unshare -mnpf true 2>/dev/null; then
	FIELDPOST_IMAGE_TEST=1 exec unshare -mnpf --kill-child --mount-proc "$0" "$@"
fi
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
case $(uname -m) in
x86_64) cpu=amd64 ;;
aarch64) cpu=arm64 ;;
*) cpu=$(uname -m) ;;
esac
export IMAGES="${IMAGES:-$cpu armv6}"

"$HERE/build.sh" "$WORK/one" "$1"
(umask 077 && TZ=Asia/Tokyo "$HERE/build.sh" "$WORK/two" "$1" >/dev/null)
cmp "$WORK/one.tar" "$WORK/two.tar" || { echo "two builds differ" >&2; exit 1; }
echo "ok: two builds, the same bytes"

cd "$WORK/one"
# digest FIELD FILE: the first digest after a field
digest() { sed -E "s/.*\"$1\":[^}]*\"digest\":\"sha256:([0-9a-f]{64})\".*/\1/" "$2"; }
for blob in blobs/sha256/*; do echo "${blob##*/}  $blob"; done | sha256sum --check --quiet
grep -hoE '"digest":"sha256:[0-9a-f]{64}","size":[0-9]+' index.json blobs/sha256/* --binary-files=without-match | sort -u >"$WORK/named"
while read -r named; do
	sum=$(echo "$named" | sed -E 's/.*sha256:([0-9a-f]+)".*/\1/')
	[ "$(stat -c %s "blobs/sha256/$sum")" = "${named##*:}" ] || { echo "the size of $sum is not ${named##*:}" >&2; exit 1; }
done <"$WORK/named"
echo "ok: every blob has its hash and its size"

index=blobs/sha256/$(digest manifests index.json)
manifest=blobs/sha256/$(grep -oE '"digest":"sha256:[0-9a-f]+","size":[0-9]+,"platform":\{"architecture":"'"$cpu"'"' "$index" | sed -E 's/.*sha256:([0-9a-f]+)".*/\1/')
config=blobs/sha256/$(digest config "$manifest")
layer=blobs/sha256/$(digest layers "$manifest")
grep -q "\"diff_ids\":\[\"sha256:$(gzip -dc "$layer" | sha256sum | cut -d' ' -f1)\"\]" "$config" || { echo "diff_ids is not of the layer" >&2; exit 1; }
grep -q '"User":"65532:65532"' "$config" || { echo "the image runs as root" >&2; exit 1; }
echo "ok: the image for $cpu"

if command -v skopeo >/dev/null; then
	skopeo --override-arch "$cpu" inspect "oci-archive:$WORK/one.tar" >"$WORK/inspected"
	skopeo --override-arch "$cpu" copy --quiet "oci-archive:$WORK/one.tar" "dir:$WORK/copied"
	echo "ok: skopeo reads it"
else
	echo "no skopeo here: NOT read by another program"
fi

if [ -z "${FIELDPOST_IMAGE_TEST:-}" ]; then
	echo "not root: NOT run"
	exit 0
fi
ip link set lo up
ROOT=$WORK/root
mkdir "$ROOT"
tar -C "$ROOT" --numeric-owner -xpzf "$layer"
[ "$(stat -c %u:%a "$ROOT/data")" = 65532:755 ] && [ "$(stat -c %a "$ROOT/tmp")" = 1777 ]
# inside ARGUMENTS...: runs fieldpost in the image, as its user, read-only but for /data and /tmp
inside() {
	# shellcheck disable=SC2016  # for the inner shell
	unshare -m --propagation private bash -euc '
		root=$1; shift
		mount --bind "$root" "$root" && mount --bind "$root/data" "$root/data" && mount --bind "$root/tmp" "$root/tmp"
		mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc"
		mount -o remount,bind,ro "$root"
		cd "$root/data"
		exec env -i HOME=/data PATH=/usr/bin /usr/sbin/chroot --userspec=65532:65532 "$root" /usr/bin/fieldpost "$@"' \
		bash "$ROOT" "$@"
}
inside version
inside help >"$WORK/help"
grep -q 'Available Commands' "$WORK/help"
inside demo --for 5s >"$WORK/demo" 2>&1 || { cat "$WORK/demo" >&2; exit 1; }
grep -q ' answer ' "$WORK/demo" || { echo "the demo answers no order:" >&2; cat "$WORK/demo" >&2; exit 1; }
echo "ok: the demo"

mkfifo "$WORK/log"
inside broker --dir /data/certs --listen 127.0.0.1:18883 >"$WORK/log" 2>&1 &
exec 3<"$WORK/log"
while read -r line <&3; do
	case $line in *listen*) break ;; esac
done
cat <&3 >"$WORK/broker.log" &
certs="--ca /data/certs/AmazonRootCA1.pem --cert /data/certs/certificate.pem.crt --key /data/certs/private.pem.key"
# retained, so that the subscriber gets it whenever it comes
# shellcheck disable=SC2086  # options
inside pub --endpoint 127.0.0.1:18883 $certs --message hello-from-the-image --count 1 --retain >"$WORK/pub" 2>&1 || { cat "$WORK/pub" >&2; exit 1; }
# shellcheck disable=SC2086  # options
inside sub --endpoint 127.0.0.1:18883 $certs --count 1 --wait 30s >"$WORK/sub" 2>&1 || { cat "$WORK/sub" >&2; exit 1; }
grep -q hello-from-the-image "$WORK/sub"
[ "$(stat -c %u "$ROOT/data/certs/private.pem.key")" = 65532 ]
echo "ok: broker, pub and sub"
