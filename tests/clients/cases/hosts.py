"""Cases in which a channel server dies, stands still, or cannot be reached; and how it comes back."""

import select
import signal
import time

from harness import until

from .scene import SERVERS

# Between the beginning of an incident and its end: long after the replacement.
AWAY = 3.5


def in_ring(cell):
    return {node["name"] for node in cell.ctl("show")["nodes"]}


def is_ready(node):
    return bool(select.select([node.process.stdout], [], [], 0)[0])


def come_back(cell, *names):
    """These processes start again. Who was replaced is told so, waits, and is added; the slots come back by a plan."""
    nodes = [cell.nodes[name] for name in names]
    for node in nodes:
        node.spawn()
    added = []
    for node in nodes:
        until(20, f"{node.name} is there or is told to wait", lambda: is_ready(node) or "not in the ring" in node.words())
        if not is_ready(node):
            cell.ctl("add", cell.entry(node.name))
            added.append(node.name)
        node.is_up()
    if added:
        cell.ctl("carry-out", "--pause", "10")
    return added


def replaced(cell, name, began):
    until(15, f"{name} is replaced", lambda: name not in in_ring(cell))
    return round(time.monotonic() - began, 3)


def wait_for(began, seconds):
    time.sleep(max(0, began + seconds - time.monotonic()))


def kill(scene, nth):
    """A channel server is killed; the ring managers replace it; it comes back and is added again."""
    cell, name = scene.cell, SERVERS[nth % len(SERVERS)]
    began = time.monotonic()
    cell.nodes[name].kill()
    ring = replaced(cell, name, began)
    wait_for(began, AWAY)
    come_back(cell, name)
    scene.incident(began, who=name, ring_s=ring)


def refused(cell, name):
    """A process that was replaced owns nothing, and ends when another takes its place in the ring. Seconds until it owned nothing."""
    node, woke = cell.nodes[name], time.monotonic()
    until(10, f"{name} owns nothing", lambda: node.metric("campanile_channels", role="channel") == 0)
    until_refused = round(time.monotonic() - woke, 3)
    assert name not in in_ring(cell), f"{name} is back in the ring by itself"
    cell.ctl("add", cell.entry(name))
    code = node.ended(10)
    assert code == 1 and "another process runs as" in node.words(), f"{name} ended with {code}: {node.words()}"
    # What another process of that name would do.
    node.spawn()
    node.is_up()
    cell.ctl("carry-out", "--pause", "10")
    return until_refused


def stop(scene, nth):
    """A channel server stands still for some seconds, wakes as one that owns nothing, and ends when its place is given to another process."""
    cell, name = scene.cell, SERVERS[nth % len(SERVERS)]
    node, began = cell.nodes[name], time.monotonic()
    node.process.send_signal(signal.SIGSTOP)
    try:
        ring = replaced(cell, name, began)
        wait_for(began, AWAY)
    finally:
        node.process.send_signal(signal.SIGCONT)
    scene.incident(began, who=name, ring_s=ring, refused_s=refused(cell, name))


def cut(scene, nth, *ways):
    cell, name = scene.cell, SERVERS[nth % len(SERVERS)]
    host, began = cell.nodes[name].host, time.monotonic()
    host.cut(*ways)
    try:
        ring = replaced(cell, name, began)
        wait_for(began, AWAY)
    finally:
        host.heal()
    scene.incident(began, who=name, ways=list(ways) or ["from", "to"], ring_s=ring, refused_s=refused(cell, name))


def silent(scene, nth):
    """Nothing comes from a channel server's host and nothing goes to it, as if its power were gone; then the cable is whole again."""
    cut(scene, nth)


def oneway(scene, nth):
    """Only one direction of the cable is cut: from the host, or, every second time, to it."""
    cut(scene, nth, "to" if nth % 2 else "from")


def powercut(scene, nth):
    """All channel servers are killed at once and start again."""
    cell, began = scene.cell, time.monotonic()
    for name in SERVERS:
        cell.nodes[name].process.kill()
    for name in SERVERS:
        cell.nodes[name].kill()
    time.sleep(1)
    added = come_back(cell, *SERVERS)
    back = time.monotonic()
    wait_for(back, 4)
    scene.incident(began, added=added, back=back)


def after_powercut(scene, verdict):
    """Durable: complete so long after the return. In memory: every subscriber was told."""
    facts = {"complete_s": []}
    for began, ended, words in scene.incidents:
        owed = {(channel, at): None for channel, _, epoch, at, _, acked in scene.said if epoch is None and began - 1 < acked < words["back"]}
        last = words["back"]
        for client, log in scene.logs.items():
            for time_, what, *rest in log:
                if what == "heard" and (rest[0], rest[2]) in owed:
                    last = max(last, time_)
            told = {rest[0] for time_, what, *rest in log if what == "told" and began < time_ < ended and rest[1] != rest[3]}
            for channel in scene.memory if client.startswith("guest") else ():
                if channel not in told:
                    verdict.note("not_told", client, channel, began=began)
        facts["complete_s"].append(round(last - words["back"], 3))
    facts["reach"] = [("durable channels complete after the return, s", 10, max(facts["complete_s"]))]
    return facts
