#!/usr/bin/env python3
"""A cell of real processes against its number of channel servers: benches/scale_cell.py [--servers 3,6,12] [--gateways 8] [--kills 3] --json FILE.

As root: every process and three Consul servers in a network namespace of its own, nobody connected. In calm: bytes of all cables and CPU of all
processes. Then a channel server is killed: from the death to the ring without it, and from that write to the last node that has it. Then the
same ring is written by hand, with managers that push it and in a cell without any. Say what the machine did meanwhile: all share its cores."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/clients"))
os.environ["PYTHONUNBUFFERED"] = "1"

from cases import hosts  # noqa: E402
from cases.consul import Ground  # noqa: E402
from cases.scene import CONFIG, LIMITS  # noqa: E402
from cluster import Cell  # noqa: E402
from harness import until  # noqa: E402

CALM = 10
WRITES = 10


def cables(ground):
    """By host: bytes and packets that went through its cable, both ways."""
    counted = {}
    for nth, name in enumerate(ground.hosts):
        at = pathlib.Path(f"/sys/class/net/c{os.getpid()}-{nth + 2}/statistics")
        counted[name] = [sum(int((at / f"{way}_{what}").read_text()) for way in ("rx", "tx")) for what in ("bytes", "packets")]
    return counted


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_of_machine():
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return fields[3] + fields[4], sum(fields)


def kind(name):
    return "store" if name[0] == "s" and name[1:].isdigit() else name.rstrip("0123456789")


def calm(cell):
    """A second of a cell in which nothing happens, by kind of process."""
    pids = {name: node.process.pid for name, node in cell.nodes.items()} | {server.name: server.process.pid for server in cell.ground.servers}
    before, used, machine = cables(cell.ground), {name: cpu(pid) for name, pid in pids.items()}, idle_of_machine()
    time.sleep(CALM)
    after, machine_after = cables(cell.ground), idle_of_machine()
    by_kind = {}
    for name, pid in pids.items():
        one = by_kind.setdefault(kind(name), {"count": 0, "kB_per_s": 0.0, "packets_per_s": 0.0, "cpu_percent": 0.0})
        one["count"] += 1
        one["kB_per_s"] += (after[name][0] - before[name][0]) / CALM / 1e3
        one["packets_per_s"] += (after[name][1] - before[name][1]) / CALM
        one["cpu_percent"] += (cpu(pid) - used[name]) / CALM * 100
    for one in by_kind.values():
        one |= {key: round(one[key] / one["count"], 2) for key in ("kB_per_s", "packets_per_s", "cpu_percent")}
    idle, whole = (b - a for a, b in zip(machine, machine_after, strict=True))
    return {"each": by_kind, "machine_busy_percent": round((1 - idle / whole) * 100, 1)}


def taken(node):
    return node.metric("campanile_ring_epoch"), node.metric("campanile_ring_taken_timestamp_seconds")


def until_all_have(nodes, epoch):
    until(20, "everybody has the ring", lambda: all(taken(node)[0] >= epoch for node in nodes))
    return {node.name: taken(node)[1] for node in nodes}


def kill(cell, name):
    others = [node for node in cell.nodes.values() if node.name != name]
    managers = [node for node in others if node.roles == "ring"]
    known = taken(managers[0])[0]
    before, began, wall = cables(cell.ground), time.monotonic(), time.time()
    cell.nodes[name].kill()
    # The store is not asked: what it is asked is counted.
    until(15, f"{name} is replaced", lambda: taken(managers[0])[0] > known)
    times = until_all_have(others, known + 1)
    written = min(times[manager.name] for manager in managers)
    took = time.monotonic() - began
    # Who was pushed a ring reads the seats after a moment.
    time.sleep(1)
    after = cables(cell.ground)
    figures = {
        "to_the_write_ms": round((written - wall) * 1e3, 1),
        "to_all_nodes_ms": round((max(times.values()) - written) * 1e3, 1),
        "store_kB": round(sum(after[server.name][0] - before[server.name][0] for server in cell.ground.servers) / 1e3),
        "in_s": round(took, 2),
    }
    time.sleep(3)
    hosts.come_back(cell, name)
    time.sleep(2)
    return figures


def writes(cell):
    """How long after `ctl` was called the last node has the ring that it wrote: the calls themselves are the same everywhere."""
    late = []
    for nth in range(WRITES):
        wall = time.time()
        epoch = cell.ctl("unfreeze" if nth % 2 else "freeze")["ring_epoch"]
        late.append((max(until_all_have(cell.nodes.values(), epoch).values()) - wall) * 1e3)
        time.sleep(0.5)
    return {"median_ms": round(statistics.median(late), 1), "worst_ms": round(max(late), 1)}


def measure(servers, gateways, managers, kills):
    names = [f"cs{nth + 1}" for nth in range(servers)]
    cell = Cell(*names, managers=managers, gateways=gateways, window=1, config=CONFIG, ground=Ground(), is_kept=True, flags=("--drain", "1", *LIMITS))
    try:
        time.sleep(5)
        figures = {"servers": servers, "gateways": gateways, "managers": managers, "processes": len(cell.nodes) + 3}
        figures["calm"] = calm(cell)
        figures["kills"] = [kill(cell, names[nth % servers]) for nth in range(kills)]
        figures["by_hand"] = writes(cell)
        return figures
    finally:
        cell.down()


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--servers", default="3,6,12")
    words.add_argument("--gateways", type=int, default=8)
    words.add_argument("--kills", type=int, default=3)
    words.add_argument("--json", required=True)
    asked = words.parse_args()
    counts, made = [int(count) for count in asked.servers.split(",")], []
    for servers, managers, kills in [*((count, 3, asked.kills) for count in counts), (counts[-1], 0, 0)]:
        made.append(measure(servers, asked.gateways, managers, kills) | {"load_average": os.getloadavg()[0], "date": time.strftime("%F %T")})
        print(json.dumps(made[-1]), file=sys.stderr)
        pathlib.Path(asked.json).write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
