"""Whoever does not read is let go with 4002 and comes back complete; nobody waits for it."""

import json
import socket
import time

from harness import until
from rtm import Client, Socket
from test_centrifuge import api, jwt

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


def test_who_ends_its_side_and_takes_nothing_of_a_large_answer_is_let_go_all_the_same(fresh):
    server = fresh("--ephemeral", "--limit", "stall_timeout_ms=1000").up()
    channel = "half-closed"
    for count in range(250):
        api(server, "publish", channel=channel, data={"text": TEXT})
    connections = lambda: server.metric("campanile_connections")
    before = connections()
    door = server.workspace["centrifuge"]
    guest = Socket(door["url"], receive_bytes=4096)
    guest.send(json.dumps({"id": 1, "connect": {"token": jwt(door["token_secret"], sub="42")}}))
    assert json.loads(guest.frame()[1])["connect"]["client"]
    assert connections() == before + 1
    guest.send("\n".join(json.dumps(command) for command in ({"id": 2, "subscribe": {"channel": channel}}, {"id": 3, "history": {"channel": channel, "limit": 250}})))
    guest.socket.shutdown(socket.SHUT_WR)
    # A second in which it takes nothing, and three for the last words; it never reads.
    until(15, "its connection is gone", lambda: connections() == before)
    guest.socket.close()
