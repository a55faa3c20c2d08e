#!/usr/bin/env bash
# stop.sh: ends the checks, at whatever point they are, and waits until the board is restored
# shellcheck source=deploy/hw/board/place.sh
. "$(dirname "$0")/place.sh"
touch out/cancelled
exec 9>out/lock
flock 9 # prepare.sh has ended, and either has begun or never will
exec 9>&-
systemctl stop "$CHECKS" 2>/dev/null
./restore.sh
