#!/usr/bin/env python3
"""What TLS between nodes costs: two cells on loopback that differ in nothing else, in turn: benches/links.py [ROUNDS]

Publications in memory go from the webapp's publish API over one link to their owner, and over another to a gateway with one subscriber. CPU time is
of the three processes, user and kernel. Needs etcd, and the Python of tests/clients.
"""

import contextlib
import http.client
import json
import pathlib
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/clients"))

from cluster import Cell  # noqa: E402
from rtm import Ended  # noqa: E402
from test_centrifuge_wire import Guest  # noqa: E402

CONFIG = {
    "client": {"token": {"hmac_secret_key": "secret"}},
    "http_api": {"key": "key"},
    "channel": {"without_namespace": {"allow_subscribe_for_client": True}},
}
# Bytes of a payload, of a batch how many, of a round how many batches.
SIZES = ((200, 500, 100), (16_000, 20, 100))


class Side:
    """One cell and its subscriber."""

    def __init__(self, tls):
        self.cell = Cell("cs1", config=CONFIG, tls=tls)
        self.door = http.client.HTTPConnection(self.cell.web.http_at)
        self.heard = 0
        self.guest = Guest(self.cell.gateway)
        self.guest.ask("subscribe", channel="link")
        threading.Thread(target=self.hear, daemon=True).start()

    def hear(self):
        with contextlib.suppress(Ended):
            while True:
                self.heard += "pub" in self.guest.next(3_600).get("push", {})

    def cpu(self):
        """Seconds of CPU of webapp, owner and gateway."""
        tasks = [task for name in ("web", "cs1", "gw1") for task in pathlib.Path(f"/proc/{self.cell.nodes[name].pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def until_heard(self, due):
        deadline = time.monotonic() + 60
        while self.heard < due:
            assert time.monotonic() < deadline, f"{due - self.heard} of a round were not heard"
            time.sleep(0.0005)

    def round(self, size, count, batches):
        """(microseconds of CPU for a publication, publications a second)."""
        body = json.dumps({"commands": [{"publish": {"channel": "link", "data": "x" * (size - 2)}}] * count})
        cpu, begun, due = self.cpu(), time.monotonic(), self.heard
        for _ in range(batches):
            # The subscriber is at most a batch behind, which its outbox holds.
            self.until_heard(due)
            due += count
            self.door.request("POST", "/api/batch", body, {"X-API-Key": "key"})
            replies = json.load(self.door.getresponse())["replies"]
            assert len(replies) == count and all("publish" in reply for reply in replies), replies[0]
        self.until_heard(due)
        return (self.cpu() - cpu) * 1e6 / (count * batches), count * batches / (time.monotonic() - begun)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    sides = {"plain": Side(False), "TLS": Side(True)}
    try:
        for size, count, batches in SIZES:
            took = {name: [] for name in sides}
            for side in sides.values():
                side.round(size, count, batches)
            for nth in range(rounds):
                for name in sorted(sides, reverse=bool(nth % 2)):
                    took[name].append(sides[name].round(size, count, batches))
            for name, all_ in took.items():
                cpu, rate = (statistics.median(column) for column in zip(*all_))
                print(f"{size} bytes, {name}: {cpu:.1f} us of CPU a publication ({min(one[0] for one in all_):.1f} to {max(one[0] for one in all_):.1f}), {rate:.0f} a second")
            more = statistics.median(tls[0] - plain[0] for plain, tls in zip(took["plain"], took["TLS"]))
            print(f"{size} bytes, TLS more, two links: {more:.1f} us a publication, {more * 1e6 / size / 2 / 1e3:.2f} ms a MB of one link")
    finally:
        for side in sides.values():
            side.cell.down()


if __name__ == "__main__":
    main()
