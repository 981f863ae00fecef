"""Who says things, at a steady pace, and knows what became of each: a thread for each channel, or for a few.

`said` has [channel, text, epoch, at, when it was asked, when it was acknowledged], `unsaid` what was asked and never acknowledged.
"""

import http.client
import json
import threading
import time
import urllib.parse

PATIENCE = 5


class Door:
    """One connection to a server, made again when it broke."""

    def __init__(self, http_url):
        self.at, self.connection = urllib.parse.urlsplit(http_url).netloc, None

    def post(self, path, body, headers):
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.at, timeout=PATIENCE)
            self.connection.request("POST", path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


class Speaker(threading.Thread):
    """Says `per_second` things in its channels, one after another: what went wrong is noted, and the next comes when it is due."""

    def __init__(self, cell, channels, per_second):
        super().__init__(daemon=True)
        self.channels, self.pause, self.door = channels, 1 / per_second, Door(cell.web.http)
        self.said, self.unsaid, self.is_over = [], [], False
        # What makes each of its texts longer.
        self.padding = ""

    def run(self):
        n, due = 0, time.monotonic()
        while not self.is_over:
            self.say_something(self.channels[n % len(self.channels)])
            n += 1
            due = max(due + self.pause, time.monotonic() - self.pause)
            time.sleep(max(0, due - time.monotonic()))

    def say_something(self, channel):
        """Whether it was acknowledged."""
        text, asked = f"{channel} {len(self.said) + len(self.unsaid)}{self.padding}", time.monotonic()
        try:
            epoch, at = self.say(channel, text)
            self.said.append([channel, text, epoch, at, asked, time.monotonic()])
            return True
        except (OSError, http.client.HTTPException, ValueError, KeyError) as why:
            self.unsaid.append([channel, text, repr(why)[:200], asked])
            return False


class Poster(Speaker):
    """Posts messages: durable, by the Web API."""

    def __init__(self, cell, channels, per_second):
        super().__init__(cell, channels, per_second)
        self.headers = {"Authorization": f"Bearer {cell.web.token('alice')}", "Content-Type": "application/x-www-form-urlencoded"}

    def say(self, channel, text):
        _, answer = self.door.post("/api/chat.postMessage", urllib.parse.urlencode({"channel": channel, "text": text}), self.headers)
        return None, json.loads(answer)["seq"]


class Publisher(Speaker):
    """Publishes into channels that live in memory, by the server API."""

    def __init__(self, cell, channels, per_second):
        super().__init__(cell, channels, per_second)
        self.headers = {"X-API-Key": "key", "Content-Type": "application/json"}

    def say(self, channel, text):
        _, answer = self.door.post("/api/publish", json.dumps({"channel": channel, "data": {"text": text}}), self.headers)
        result = json.loads(answer)["result"]
        return result["epoch"], result["offset"]
