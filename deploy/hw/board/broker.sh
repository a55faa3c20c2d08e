# shellcheck shell=bash
# The broker on the board, in place of mosquitto: fieldpost's own stand-in, with mutual TLS.
# The watcher is connected to it directly, and fieldpost by a proxy. So when the way of
# fieldpost is cut, the watcher misses nothing.

# serve: the broker, for as long as the checks last. It makes the certificates.
serve() {
	systemd-run -q --unit="$BROKER" --collect -p WorkingDirectory="$HERE" \
		"$FIELDPOST" broker --dir "$HERE/certs" --listen "127.0.0.1:$BROKER_PORT" --rates=false
	within 60 listens "$BROKER_PORT"
}
listens() { ss -Hltn "sport = :$1" | grep -q .; }

start_broker() {
	systemd-run -q --unit="$WAY" --collect --socket-property="ListenStream=127.0.0.1:$WAY_PORT" \
		/usr/lib/systemd/systemd-socket-proxyd "127.0.0.1:$BROKER_PORT"
}
stop_broker() { systemctl stop "$WAY.socket" "$WAY.service"; }
broker_listens() { listens "$WAY_PORT"; }

start_watcher() {
	systemd-run -q --unit="$WATCH" --collect -p Restart=always -p RestartSec=1 -p StandardOutput=append:/run/watch.log \
		"$FIELDPOST" sub --endpoint "127.0.0.1:$BROKER_PORT" --ca "$HERE/certs/AmazonRootCA1.pem" \
		--cert "$HERE/certs/certificate.pem.crt" --key "$HERE/certs/private.pem.key" \
		--client-id watcher --topic field/bench --raw
}
