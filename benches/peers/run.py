#!/usr/bin/env python3
"""Campanile and its peers side by side: the same load against each, in turn, and what came of it.

    benches/peers/run.py [--rounds 30] [--seconds 1.5] [--peers uws,floor,..] [--scenarios NAME,..] [--connections 1000] [--write]

Each round runs every scenario against every peer once, in an order that turns; each server is started on CPU 0 before the first round and
stays, the generator runs on CPU 1. Medians and ranges are told, and for the ratio of CPU per delivery the median of the pairs of a round
(Campanile / peer) with a 95 % interval by bootstrap. A run in which something was lost counts for nothing and is counted. Where the generator
was the limit, rate and latency are the generator's and are left out; the server's CPU per delivery stands (it had less to put into one write
than it could have had). `--write` makes benches/RESULTS.md, anew after each round.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = ROOT / "target/release/campanile"
PEERS = ("campanile", "uws", "tokio", "ws", "nats", "centrifuge", "floor")
SCENARIOS = {
    "fanout, 1 outstanding": "fanout --outstanding 1",
    "fanout, 8 outstanding": "fanout --outstanding 8",
    "fanout, 64 outstanding": "fanout --outstanding 64",
    "fanout, 100 a second": "fanout --rate 100",
    "channels, 1,000 of 10, 1,000 a second": "channels --channels 1000 --subscribers 10 --rate 1000",
}


class Peer:
    def __init__(self, name, port):
        self.name, self.port = name, port
        self.script = str(HERE / f"{name}.sh")
        about = subprocess.run(["bash", self.script, "about"], check=True, capture_output=True, text=True).stdout.strip()
        self.dialect, self.path, self.about = about.split("|")

    def start(self):
        subprocess.run(["bash", self.script, "install"], check=True)
        log = open(ROOT / f"target/peers/{self.name}.log", "w")
        self.process = subprocess.Popen(["taskset", "-c", "0", "bash", self.script, "start", str(self.port)], stdout=log, stderr=log)
        due = time.monotonic() + 20
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > due:
                sys.exit(f"{self.name} does not come up: see target/peers/{self.name}.log")
            time.sleep(0.1)

    def load(self, words, seconds, connections):
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = ["taskset", "-c", "1", str(BINARY), "load", *words.split(), "--dialect", self.dialect, "--url", f"ws://127.0.0.1:{self.port}{self.path}"]
            command += ["-n", str(connections), "--seconds", str(seconds), "--warm", "0.3", "--server-pid", str(self.process.pid), "--json", file.name]
            run = subprocess.run(command, capture_output=True, text=True)
            try:
                return run.returncode, json.load(open(file.name))
            except ValueError:
                return run.returncode, {"first_faults": [run.stderr.strip()]}


def bootstrap(values, draws=2_000):
    """A 95 % interval of the median."""
    drawn = sorted(statistics.median(random.choices(values, k=len(values))) for _ in range(draws))
    return drawn[int(draws * 0.025)], drawn[int(draws * 0.975)]


def spread(values, form):
    return f"{form(statistics.median(values))} [{form(min(values))}-{form(max(values))}]" if values else "none"


def table(title, peers, runs):
    lines = [f"### {title}", "", "| server | runs | k deliveries/s | server CPU ns/delivery | Campanile / it, CPU, 95 % | p50 ms | p99 ms | failed | generator the limit |", "|---|---|---|---|---|---|---|---|---|"]
    cpu = lambda figures: figures["server"]["cpu_us_per_delivery"] * 1e3
    ours = {nth: cpu(figures) for nth, (code, figures) in runs["campanile"].items() if code in (0, 3)}
    for peer in peers:
        mine = runs[peer.name]
        whole = {nth: figures for nth, (code, figures) in mine.items() if code in (0, 3)}
        free = [figures for code, figures in mine.values() if code == 0]
        pairs = [ours[nth] / cpu(figures) for nth, figures in whole.items() if nth in ours]
        ratio = "1"
        if peer.name != "campanile":
            low, high = bootstrap(pairs) if len(pairs) > 4 else (0, 0)
            ratio = f"{statistics.median(pairs):.2f} [{low:.2f}-{high:.2f}] of {len(pairs)}" if len(pairs) > 4 else "too few"
        cells = [
            peer.name, str(len(whole)), spread([one["rate"] / 1e3 for one in free], "{:.0f}".format),
            spread([cpu(one) for one in whole.values()], "{:.0f}".format), ratio,
            spread([one["latency_us"]["p50"] / 1e3 for one in free], "{:.2f}".format), spread([one["latency_us"]["p99"] / 1e3 for one in free], "{:.1f}".format),
            str(len(mine) - len(whole)), str(len(whole) - len(free)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + [""]


def report(asked, peers, runs, rounds):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    lines = ["# Campanile and its peers", "", *(__doc__.strip().split("\n")[4:]), ""]
    lines += [f"- machine: {cpu}, {os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}; loopback, {asked.connections} connections, 200 bytes of JSON, runs of {asked.seconds} s"]
    lines += [f"- date {datetime.date.today()}, {rounds} rounds; command: `benches/peers/run.py {' '.join(sys.argv[1:])}`"]
    lines += [f"- {peer.name}: {peer.about}" for peer in peers] + [""]
    for title in runs:
        lines += table(title, peers, runs[title])
    return "\n".join(lines)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=30)
    words.add_argument("--seconds", type=float, default=1.5)
    words.add_argument("--connections", type=int, default=1_000)
    words.add_argument("--peers", default=",".join(PEERS))
    words.add_argument("--scenarios", default="")
    words.add_argument("--write", action="store_true")
    asked = words.parse_args()
    (ROOT / "target/peers").mkdir(parents=True, exist_ok=True)
    names = ["campanile", *(name for name in asked.peers.split(",") if name != "campanile")]
    peers = [Peer(name, 18_300 + 10 * nth) for nth, name in enumerate(names)]
    scenarios = {title: line for title, line in SCENARIOS.items() if asked.scenarios in title}
    runs = {title: {peer.name: {} for peer in peers} for title in scenarios}
    begun = time.monotonic()
    try:
        for peer in peers:
            peer.start()
        for nth in range(asked.rounds):
            for title, line in scenarios.items():
                turn = (nth + len(title)) % len(peers)
                for peer in peers[turn:] + peers[:turn]:
                    code, figures = peer.load(line, asked.seconds, asked.connections)
                    runs[title][peer.name][nth] = code, figures
                    if code not in (0, 3):
                        print(f"round {nth}, {title}, {peer.name}: {figures.get('first_faults')}", file=sys.stderr)
            print(f"round {nth + 1} of {asked.rounds}, {time.monotonic() - begun:.0f} s", file=sys.stderr)
            if asked.write:
                (HERE.parent / "RESULTS.md").write_text(report(asked, peers, runs, nth + 1))
    finally:
        for peer in peers:
            if hasattr(peer, "process"):
                peer.process.kill()
                peer.process.wait()
    print(report(asked, peers, runs, asked.rounds))


main()
