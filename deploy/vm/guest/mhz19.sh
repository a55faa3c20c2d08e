#!/bin/bash
# An MH-Z19 at the end of a serial port: 812 ppm, asked for by nine bytes.
while [ "$(head -c 9 | wc -c)" = 9 ]; do
	printf '\xff\x86\x03\x2c\x00\x00\x00\x00\x4b'
done
