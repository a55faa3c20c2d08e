#!/usr/bin/env bash
# test.sh BINDIR: the packages are made twice, to the same bytes, lintian has nothing
# to say, and a package holds what `make install` installs
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(realpath "$HERE/../..")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PACKAGES=${PACKAGES:-deb:amd64 deb:armhf:armv6 rpm:amd64}

"$HERE/build.sh" "$WORK/one" "$1" >"$WORK/sums"
(umask 077 && TZ=Asia/Tokyo "$HERE/build.sh" "$WORK/two" "$1" >/dev/null)
cmp "$WORK/one/SHA256SUMS" "$WORK/two/SHA256SUMS" || { echo "two builds differ" >&2; exit 1; }
echo "ok: two builds, the same bytes"
for deb in "$WORK"/one/*.deb; do lintian --allow-root --fail-on info,warning,error "$deb"; done
echo "ok: lintian"

make -s -C "$REPO" install "DESTDIR=$WORK/tree" "BINARY=$1/fieldpost-linux-amd64"
dpkg-deb -x "$WORK"/one/*_amd64.deb "$WORK/unpacked"
(cd "$WORK/tree" && find . -type f) | sort >"$WORK/files"
while read -r file; do cmp "$WORK/tree/$file" "$WORK/unpacked/$file"; done <"$WORK/files"
echo "ok: the $(wc -l <"$WORK/files") files of make install"
cat "$WORK/sums"
