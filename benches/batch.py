#!/usr/bin/env python3
"""Publications a second by the server API, in batches over one keep-alive connection: benches/batch.py HOST:PORT KEY COMMANDS"""

import http.client
import json
import sys
import time

host, key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = {"m": "x" * 192}
body = json.dumps({"commands": [{"publish": {"channel": f"batch-{nth % 100}", "data": data}} for nth in range(count)]})
connection = http.client.HTTPConnection(host)
published, begun = 0, time.monotonic()
while time.monotonic() - begun < 5:
    connection.request("POST", "/api/batch", body, {"X-API-Key": key})
    replies = json.load(connection.getresponse())["replies"]
    assert len(replies) == count and all("publish" in reply for reply in replies)
    published += count
print(f"{count} a batch: {published / (time.monotonic() - begun):.0f} publications a second")
