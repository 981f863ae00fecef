"""Cases in which a channel server dies, stands still, or cannot be reached; and how it comes back."""

import signal
import time

from harness import until

from .scene import SERVERS

# Between the beginning of an incident and its end: long after the replacement.
AWAY = 3.5
# How long a server stands still.
STILL = {"short": AWAY, "long": 10}


def add(cell, name):
    """Gives a node that stands by its share. A store that is silent for seconds may do it and not say so; then asking again is refused."""
    try:
        cell.ctl("add", name)
    except AssertionError as why:
        if f"node {name} has seats already" not in str(why):
            raise


def come_back(cell, *names):
    """These processes start again. Who was replaced stands by and is added; the slots come back by a plan."""
    nodes = [cell.nodes[name] for name in names]
    for node in nodes:
        node.spawn()
    for node in nodes:
        node.is_up()
    added = [name for name in names if name not in cell.seated()]
    for name in added:
        add(cell, name)
    if added:
        cell.ctl("carry-out", "--pause", "10")
    return added


def replaced(cell, name, began):
    until(15, f"{name} is replaced", lambda: name not in cell.seated())
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
    """A process that was replaced owns nothing: it ends, and says why. Seconds until it did."""
    node, woke = cell.nodes[name], time.monotonic()
    code = node.ended(10)
    until_refused = round(time.monotonic() - woke, 3)
    assert code == 1 and "were given to others" in node.words(), f"{name} ended with {code}: {node.words()}"
    assert name not in cell.seated(), f"{name} has seats again by itself"
    come_back(cell, name)
    return until_refused


def stop(scene, nth):
    """A channel server stands still for some seconds, and ends when it wakes, as one that owns nothing."""
    cell, name = scene.cell, SERVERS[nth % len(SERVERS)]
    node, began = cell.nodes[name], time.monotonic()
    node.process.send_signal(signal.SIGSTOP)
    try:
        ring = replaced(cell, name, began)
        wait_for(began, STILL["long" if scene.is_long else "short"])
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
