"""Publishes; arguments: Redis URL, channel, payloads. Fails unless each had one subscriber."""

import sys

import redis

url, channel, *payloads = sys.argv[1:]
client = redis.Redis.from_url(url)
reached = [client.publish(channel, payload) for payload in payloads]
sys.exit(reached != [1] * len(payloads))
