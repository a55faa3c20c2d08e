"""What both tutorial scripts share: the command line and the connection."""

import argparse
import os
import ssl

import paho.mqtt.client as mqtt


def arguments(client_id):
    p = argparse.ArgumentParser()
    p.add_argument("--endpoint", required=True, help="host:port")
    p.add_argument("--ca", default="certs/AmazonRootCA1.pem")
    p.add_argument("--cert", default="certs/certificate.pem.crt")
    p.add_argument("--key", default="certs/private.pem.key")
    p.add_argument("--client-id", default=client_id)
    p.add_argument("--topic", default="test/topic")
    p.add_argument("--count", type=int, default=5)
    return p.parse_args()


def client(args):
    """A client that is not connected yet, with a session that is kept."""
    options = {"client_id": args.client_id, "clean_session": False, "protocol": mqtt.MQTTv311}
    if hasattr(mqtt, "CallbackAPIVersion"):  # paho-mqtt 2
        options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
    c = mqtt.Client(**options)
    c.tls_set(args.ca, args.cert, args.key, tls_version=ssl.PROTOCOL_TLS_CLIENT)

    def lost(_client, _userdata, code):
        if code != 0:
            # AWS IoT Core gives no reason, and trying again would not help.
            print(f"disconnected: {mqtt.error_string(code)}", flush=True)
            os._exit(1)

    c.on_disconnect = lost
    return c


def connect(c, args):
    host, port = args.endpoint.rsplit(":", 1)
    c.connect(host, int(port), keepalive=30)
