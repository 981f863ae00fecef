"""What a client sees when something happens to a cell, again and again: `tests/cluster.sh --case kill --repeat 20 --report FILE.json`.

One says things in sixteen channels, one hears them. For each incident the report has the gap: the longest time between the acknowledgement of
a message and its delivery; and how long it took until the ring had changed. Missing, doubled and reordered messages are counted over
the whole run and fail it.

cases:
  kill   a channel server is killed; the ring managers replace it; it comes back and is added again
  stop   a channel server stands still for four seconds and wakes as one that owns nothing; it is ended, comes back and is added again
"""

import argparse
import json
import signal
import statistics
import sys
import threading
import time

from cluster import Cell
from harness import until
from rtm import Client

CHANNELS = 16
SERVERS = ("cs1", "cs2", "cs3", "cs4")


class Speaker(threading.Thread):
    def __init__(self, cell, channels):
        super().__init__()
        self.cell, self.channels, self.said, self.is_over = cell, channels, [], False

    def run(self):
        n = 0
        while not self.is_over:
            channel, text = self.channels[n % CHANNELS], f"word {n}"
            self.cell.web.say("alice", channel, text)
            self.said.append((channel, text, time.monotonic()))
            n += 1
            time.sleep(0.002)


class Listener(threading.Thread):
    def __init__(self, cell):
        super().__init__()
        self.client, self.heard, self.is_over, self.fault = Client(cell.web, "bob").connect(), [], False, None

    def run(self):
        try:
            while not self.is_over:
                value = self.client.take(30)
                if value.get("type") == "message" and value.get("text", "").startswith("word "):
                    self.heard.append((value["channel"], value["text"], time.monotonic()))
        except Exception as fault:
            self.fault = repr(fault)


def in_ring(cell):
    return {node["name"] for node in cell.ctl("show")["nodes"]}


def incident(case, cell, name):
    """Seconds until the ring had changed, and when it began."""
    node = cell.nodes[name]
    began = time.monotonic()
    if case == "kill":
        node.kill()
    else:
        node.process.send_signal(signal.SIGSTOP)
    until(10, "it is replaced", lambda: name not in in_ring(cell))
    replaced = time.monotonic() - began
    time.sleep(max(0, 4 - replaced))
    if case == "stop":
        node.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        node.kill()
    node.spawn()
    cell.ctl("add", cell.entry(name))
    node.is_up()
    cell.ctl("carry-out", "--pause", "10")
    time.sleep(1)
    return began, replaced


def judge(speaker, listener):
    said, heard = {}, {}
    for channel, text, _ in speaker.said:
        said.setdefault(channel, []).append(text)
    for channel, text, _ in listener.heard:
        heard.setdefault(channel, []).append(text)
    missing = sum(len(set(texts) - set(heard.get(channel, []))) for channel, texts in said.items())
    doubled = sum(len(texts) - len(set(texts)) for texts in heard.values())
    reordered = 0
    for texts in heard.values():
        numbers = [int(text.split()[1]) for text in texts]
        reordered += sum(a > b for a, b in zip(numbers, numbers[1:]))
    return missing, doubled, reordered


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--case", choices=("kill", "stop"), default="kill")
    words.add_argument("--repeat", type=int, default=3)
    words.add_argument("--report")
    asked = words.parse_args()
    with Cell(*SERVERS, managers=3, window=1) as cell:
        channels = [cell.web.new_channel(f"case-{n}", "alice", "bob") for n in range(CHANNELS)]
        speaker, listener = Speaker(cell, channels), Listener(cell)
        listener.start()
        speaker.start()
        time.sleep(2)
        spans = []
        for n in range(asked.repeat):
            began, replaced = incident(asked.case, cell, SERVERS[n % len(SERVERS)])
            spans.append((began, time.monotonic(), replaced))
            print(f"{n + 1} of {asked.repeat}: the ring after {replaced:.2f} s", file=sys.stderr)
        speaker.is_over = True
        speaker.join(20)
        deadline = time.monotonic() + 20
        while len(listener.heard) < len(speaker.said) and time.monotonic() < deadline:
            time.sleep(0.1)
        listener.is_over = True
        cell.web.say("alice", channels[0], "the end")
        listener.join(40)
        missing, doubled, reordered = judge(speaker, listener)
        arrived = {(channel, text): at for channel, text, at in listener.heard}
        incidents = []
        for began, ended, replaced in spans:
            late = [arrived[channel, text] - at for channel, text, at in speaker.said if began - 1 < at < began + 4 and (channel, text) in arrived]
            incidents.append({"ring_s": round(replaced, 3), "gap_s": round(max(late), 3)})
        gaps = sorted(one["gap_s"] for one in incidents)
        report = {
            "case": asked.case,
            "messages": len(speaker.said),
            "missing": missing,
            "duplicates": doubled,
            "out_of_order": reordered,
            "disconnected": listener.fault,
            "gap_s": {"median": statistics.median(gaps), "worst": gaps[-1], "worst_but_one": gaps[-2] if len(gaps) > 1 else None},
            "incidents": incidents,
        }
    text = json.dumps(report, indent=1)
    print(text)
    if asked.report:
        with open(asked.report, "w") as file:
            file.write(text + "\n")
    return 1 if missing or doubled or reordered or listener.fault else 0


sys.exit(main())
