"""The process: it starts with one line, ends in order, and loses nothing when it is killed."""

import os
import pathlib
import signal
import socket
import stat
import threading
import time
import urllib.request

import pytest

from harness import Refused, until
from rtm import Client, Ended, Socket


def test_a_fresh_start_takes_a_second_and_says_one_line(fresh, tmp_path):
    server = fresh(data=tmp_path / "data")
    begun = time.monotonic()
    server.up()
    took = time.monotonic() - begun
    assert took < 3, f"{took:.1f} s"
    for name in ("alice", "bob", "carol", "bot"):
        until(5, "the tokens on stderr", lambda name=name: server.token(name) in server.words())
    assert server.http in server.words()
    assert [user["name"] for user in server.workspace["users"]] == ["alice", "bob", "carol", "bot"]
    assert [channel["name"] for channel in server.workspace["channels"]] == ["general", "random"]
    assert set(server.workspace["users"][0]) == {"id", "name", "token", "is_bot"}
    for channel in ("general", "random"):
        assert set(server.call("alice", "conversations.members", channel=server.channel(channel))["members"]) == {user["id"] for user in server.workspace["users"]}
    with urllib.request.urlopen(f"{server.http}/health", timeout=5) as answer:
        assert answer.status == 200
    server.term()
    assert server.ended() == 0
    assert server.process.stdout.read() == b"", "nothing else on stdout"


def test_ephemeral_writes_nothing(fresh, tmp_path):
    server = fresh("--ephemeral", data=tmp_path / "none")
    server.up()
    server.say("alice", server.channel("general"), "gone tomorrow")
    server.term()
    assert server.ended() == 0
    assert not (tmp_path / "none").exists()


def test_tokens_and_messages_survive_a_restart(fresh):
    server = fresh().up()
    token = server.token("alice")
    ts = server.say("alice", server.channel("general"), "kept")["ts"]
    server.term()
    assert server.ended() == 0
    server.up()
    assert server.token("alice") == token
    messages = server.call("bob", "conversations.history", channel=server.channel("general"))["messages"]
    assert ts in [message["ts"] for message in messages]


def test_a_second_process_on_the_data_directory_is_refused(fresh):
    first = fresh().up()
    second = fresh(data=first.data)
    second.spawn()
    assert second.ended() == 1
    assert str(first.data) in second.words() and second.process.stdout.read() == b""
    first.say("alice", first.channel("general"), "undisturbed")


@pytest.mark.parametrize("door", ["http", "ws"])
@pytest.mark.parametrize("holder", ["somebody", "campanile"])
def test_a_busy_port_is_a_sentence(fresh, tmp_path, door, holder):
    if holder == "campanile":
        other = fresh("--ephemeral").up()
        at = getattr(other, f"{door}_at")
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        at = f"127.0.0.1:{listener.getsockname()[1]}"
    server = fresh("--ephemeral", data=tmp_path / "data")
    server.spawn(**{door: at})
    assert server.ended() == 1
    assert at in server.words() and "panicked" not in server.words(), server.words()
    assert server.process.stdout.read() == b""
    if holder == "campanile":
        Client(other, "alice").connect().pong()


def test_an_unwritable_directory_is_a_sentence(fresh, tmp_path):
    # A file in the way stops even root.
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    server = fresh(data=blocked / "data")
    server.spawn()
    assert server.ended() == 1
    assert str(blocked) in server.words() and "panicked" not in server.words(), server.words()


def test_nonsense_on_the_command_line_is_told_before_anything_binds(fresh):
    for flags in (["--cores", "0"], ["--http", "nonsense"], ["--no-such-flag"]):
        server = fresh(*flags)
        server.spawn()
        assert server.ended() != 0
        assert "panicked" not in server.words()


def test_sigterm_says_goodbye_answers_503_closes_1001_and_ends_with_0(fresh):
    server = fresh().up()
    general = server.channel("general")
    alice = Client(server, "alice").connect()
    bob = Client(server, "bob").connect()
    ack = alice.post(general, "before the end")
    bob.wait_text("before the end")
    begun = time.monotonic()
    server.term()
    assert alice.wait("goodbye", lambda value: value.get("type") == "goodbye", 5)
    status, headers, value = server.ask("rtm.connect", token=server.token("alice"))
    assert status == 503 and int(headers["Retry-After"]) >= 1 and value["ok"] is False
    for client in (alice, bob):
        code, _ = client.socket.ended(10)
        assert code == 1001
    assert server.ended() == 0
    took = time.monotonic() - begun
    assert 1 < took < 6, f"a window of 2 s, but {took:.1f} s"
    server.up()
    assert ack["ts"] in [event.get("ts") for event in server.events("bob", general)]
    bob.server = alice.server = server
    bob.connect().catch_up()


def test_a_second_sigterm_stops_at_once(fresh):
    server = fresh("--drain", "30").up()
    alice = Client(server, "alice").connect()
    server.term()
    alice.wait("goodbye", lambda value: value.get("type") == "goodbye", 5)
    begun = time.monotonic()
    server.term()
    server.ended()
    assert time.monotonic() - begun < 3


def test_what_was_acknowledged_survives_kill_9_and_a_resuming_client_has_every_event_once(fresh):
    """Somebody posts all the time, on HTTP and on the websocket; the server is killed five times in the middle."""
    server = fresh().up()
    channel = server.new_channel("survivors", "alice", "bob", "carol")
    listener = Client(server, "bob").connect()
    start = listener.positions[channel]
    acknowledged, stop = {}, threading.Event()

    def write():
        count = 0
        while not stop.is_set():
            count += 1
            text = f"by alice {count}"
            while not stop.is_set():
                try:
                    acknowledged[text] = server.say("alice", channel, text, client_msg_id=f"alice-{count}")["ts"]
                    break
                except (OSError, ValueError, Refused):
                    stop.wait(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            goal = len(acknowledged) + 60
            until(20, "sixty more messages", lambda goal=goal: len(acknowledged) >= goal)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)
            try:
                while True:
                    listener.take(5)
            except Ended:
                pass
            server.up()
            listener.connect()
            listener.pong()
        goal = len(acknowledged) + 20
        until(20, "twenty more messages", lambda: len(acknowledged) >= goal)
    finally:
        stop.set()
        writer.join(20)
    database = server.events("bob", channel)
    listener.catch_up_to(channel, database[-1]["seq"])
    assert not listener.gaps
    assert [event["seq"] for event in database] == list(range(1, len(database) + 1)), "dense"
    told = [listener.seen[channel][seq] for seq in sorted(listener.seen[channel])]
    assert told == [event for event in database if event["seq"] > start], "every event once, in order, as stored"
    stored = {event["text"]: event["ts"] for event in database if event["type"] == "message" and "subtype" not in event}
    assert {text: stored.get(text) for text in acknowledged} == acknowledged, "what was acknowledged is there"
    texts = [event["text"] for event in database if event.get("client_msg_id")]
    assert len(texts) == len(set(texts)), "a retry is the same message"
    history, cursor = [], ""
    while True:
        page = server.call("bob", "conversations.history", channel=channel, limit="100", cursor=cursor)
        history += page["messages"]
        cursor = page["response_metadata"]["next_cursor"]
        if not cursor:
            break
    assert [message["ts"] for message in reversed(history)] == [event["ts"] for event in database if event["type"] == "message"]


def test_the_outbox_is_drained_after_a_crash_without_delaying_the_start(fresh):
    server = fresh().up()
    general = server.channel("general")
    bob = Client(server, "bob").connect()
    threads = [threading.Thread(target=lambda at=at: [server.ask("chat.postMessage", {"channel": general, "text": f"{at} {count}"}, server.token("alice")) for count in range(50)]) for at in range(4)]

    def quietly(thread):
        thread.daemon = True
        thread.start()

    threading.excepthook = lambda _: None
    for thread in threads:
        quietly(thread)
    bob.wait("the first", lambda value: value.get("seq_of") == general)
    server.kill()
    for thread in threads:
        thread.join(20)
    begun = time.monotonic()
    server.up()
    assert time.monotonic() - begun < 3
    bob.connect().catch_up()
    tip = server.tip("bob", general)
    bob.catch_up_to(general, tip)
    server.say("alice", general, "and on")
    assert bob.wait_text("and on")["seq"] == tip + 1


def test_the_data_directory_is_private(fresh, tmp_path):
    server = fresh(data=tmp_path / "data")
    server.up()
    mode = stat.S_IMODE(os.stat(tmp_path / "data").st_mode)
    assert mode & 0o007 == 0, f"tokens lie in it, and it is {mode:o}"
    assert any(pathlib.Path(tmp_path / "data").iterdir())
