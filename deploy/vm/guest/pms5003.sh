#!/bin/bash
# A PMS5003 at the end of a serial port: 8, 12 and 15 µg/m³ when it is asked.
while command=$(head -c 7 | od -An -tx1); do
	case $command in
	'') exit ;;
	*' e2 '*) printf 'BM\x00\x1c\x00\x08\x00\x0c\x00\x0f\x00\x08\x00\x0c\x00\x0f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x97\x01\x88' ;;
	esac
done
