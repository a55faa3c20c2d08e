"""Prints what comes at QoS 1 and ends after so many messages, like the tutorial's subscriber."""

import json

import tutorial

args = tutorial.arguments("test-sub")
client = tutorial.client(args)
seen = []


def connected(c, _userdata, _flags, code):
    print("connected" if code == 0 else f"refused: {code}", flush=True)
    c.subscribe(args.topic, qos=1)


def subscribed(_client, _userdata, _mid, granted):
    print(f"subscribed {granted[0]}", flush=True)


def received(c, _userdata, message):
    print(f"received {message.topic} {json.loads(message.payload)['message']}", flush=True)
    seen.append(message.payload)
    if len(seen) == args.count:
        c.disconnect()


client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, received
tutorial.connect(client, args)
client.loop_forever(retry_first_connection=False)
