"""Publishes JSON messages at QoS 1, half a second apart, like the tutorial's publisher."""

import json
import sys
import time

import tutorial

args = tutorial.arguments("test-pub")
client = tutorial.client(args)


def connected(_client, _userdata, _flags, code):
    print("connected" if code == 0 else f"refused: {code}", flush=True)


client.on_connect = connected
tutorial.connect(client, args)
client.loop_start()
for number in range(1, args.count + 1):
    text = json.dumps({"message": f"Hello from the tutorial [{number}]"})
    sent = client.publish(args.topic, text, qos=1)
    sent.wait_for_publish(timeout=10)
    if not sent.is_published():
        sys.exit(f"not acknowledged: {text}")
    print(f"published {text}", flush=True)
    if number < args.count:
        time.sleep(0.5)
client.disconnect()
client.loop_stop()
