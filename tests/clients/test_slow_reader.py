"""Whoever does not read is let go with 4002 and comes back complete; nobody waits for it."""

import time

from rtm import Client

TEXT = "x" * 3_500


def test_a_slow_reader_is_let_go_with_4002_and_comes_back_complete(server):
    channel = server.new_channel("firehose", "alice", "bob", "carol")
    slow = Client(server, "bob").connect(receive_bytes=4096)
    quick = Client(server, "carol").connect()
    start = slow.positions[channel]
    latest = 0.0
    for count in range(900):
        text = f"{count} {TEXT}"
        begun = time.monotonic()
        server.say("alice", channel, text)
        quick.wait_text(text)
        latest = max(latest, time.monotonic() - begun)
    assert latest < 2, f"another client waited {latest:.1f} s"
    code = None
    # It reads what the kernel still has, and then the Close.
    from rtm import Ended

    try:
        while True:
            slow.take(10)
    except Ended as end:
        code = end.code
    held = slow.positions[channel]
    assert code in (4002, None), code
    assert held - start < 900
    slow.connect().catch_up(60)
    told = slow.texts(channel)
    if slow.gaps:
        told = [event["text"] for event in server.events("bob", channel, start + 1) if "text" in event]
    assert [int(text.split()[0]) for text in told] == list(range(900))
    tip = server.tip("bob", channel)
    assert slow.positions[channel] == tip


def test_typing_is_dropped_first(server):
    """A reader above the soft limit loses what is transient, and nothing else."""
    channel = server.new_channel("drops-first", "alice", "bob")
    slow = Client(server, "bob").connect(receive_bytes=4096)
    alice = Client(server, "alice").connect()
    before = slow.positions[channel]
    for count in range(60):
        server.say("alice", channel, f"{count} {TEXT}")
    alice.send("typing", channel=channel)
    last = server.say("alice", channel, "end")
    slow.wait_text("end", 20)
    assert slow.positions[channel] == before + 61 and last["ts"]
