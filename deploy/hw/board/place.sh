# shellcheck shell=bash disable=SC2034  # used by those that source this
# Names that the scripts on the board share.

cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
HERE=$PWD
PATH=$HERE/bin:$PATH:/usr/sbin:/sbin
export LC_ALL=C.UTF-8
CHECKS=fieldpost-hw.service
# fieldpost as it came with the payload, whatever is installed
FIELDPOST=$HERE/package/usr/bin/fieldpost
WIRES=("GPIO22=GPIO27,up" "GPIO23=GPIO24,down")
LINES_USED=(GPIO22 GPIO27 GPIO23 GPIO24)
# units that are made for the checks
BROKER=fieldpost-hw-broker WAY=fieldpost-hw-way WATCH=fieldpost-hw-watch RECORDER=fieldpost-hw-recorder
BROKER_PORT=18883 WAY_PORT=18884 # fieldpost's way to the broker can be cut

# fact NAME: what prepare.sh found out
fact() { sed -n "s/^$1=//p" out/facts; }
