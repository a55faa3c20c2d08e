#!/usr/bin/env bash
# test.sh BINDIR: the packages are made twice, to the same bytes, lintian has nothing
# to say, and a package holds what `make install` installs. As root the second time is on
# a machine of another name.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(realpath "$HERE/../..")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PACKAGES=${PACKAGES:-deb:amd64 deb:armhf:armv6 rpm:amd64}

"$HERE/build.sh" "$WORK/one" "$1" >"$WORK/sums"
elsewhere=()
if unshare -u true 2>/dev/null; then
	# shellcheck disable=SC2016  # sh expands it
	elsewhere=(unshare -u sh -c 'echo elsewhere >/proc/sys/kernel/hostname && exec "$@"' sh)
else
	echo "not root: on a machine of another name the bytes are NOT tested"
fi
(umask 077 && TZ=Asia/Tokyo "${elsewhere[@]}" "$HERE/build.sh" "$WORK/two" "$1" >/dev/null)
cmp "$WORK/one/SHA256SUMS" "$WORK/two/SHA256SUMS" || { echo "two builds differ" >&2; exit 1; }
echo "ok: two builds, the same bytes"
for deb in "$WORK"/one/*.deb; do lintian --allow-root --fail-on info,warning,error "$deb"; done
echo "ok: lintian"

make -s -C "$REPO" install "DESTDIR=$WORK/tree" "BINARY=$1/fieldpost-linux-amd64"
dpkg-deb -x "$WORK"/one/fieldpost_*_amd64.deb "$WORK/unpacked"
(cd "$WORK/tree" && find . -type f) | sort >"$WORK/files"
while read -r file; do cmp "$WORK/tree/$file" "$WORK/unpacked/$file"; done <"$WORK/files"
echo "ok: the $(wc -l <"$WORK/files") files of make install"

tar -C "$WORK/tree" -czf "$WORK/fieldpost.tgz" .
mkdir "$WORK/root"
# unpack N: the Nth line with which deploy/README.md unpacks these files, into another directory than /
unpack() { (cd "$WORK" && eval "$(sed -n "s|^sudo tar -C / |tar -C $WORK/root |p" "$REPO/deploy/README.md" | sed -n "$1p")"); }
unpack 1
echo '# my own' >>"$WORK/root/etc/fieldpost/fieldpost.yaml"
rm "$WORK/root/usr/bin/fieldpost"
unpack 2
test "$(tail -n 1 "$WORK/root/etc/fieldpost/fieldpost.yaml")" = '# my own' -a -x "$WORK/root/usr/bin/fieldpost" ||
	{ echo "an upgrade as in deploy/README.md does not keep the configuration" >&2; exit 1; }
echo "ok: unpacked and upgraded as in deploy/README.md"

dpkg-deb -x "$WORK"/one/fieldpost-provision_*_amd64.deb "$WORK/provision"
cmp "$1/fieldpost-provision-linux-amd64" "$WORK/provision/usr/bin/fieldpost-provision"
"$WORK/provision/usr/bin/fieldpost-provision" --version
test -s "$WORK/provision/usr/share/man/man1/fieldpost-provision.1.gz"
echo "ok: the package of fieldpost-provision"
cat "$WORK/sums"
