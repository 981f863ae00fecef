"""Bad input: each kind has its documented error and disturbs no other client."""

import socket
import time

import pytest

from rtm import BINARY, CLOSE, TEXT, Client, Socket


@pytest.fixture(scope="module")
def witness(server):
    """Another client of the same server, which must notice nothing."""
    return Client(server, "carol").connect()


@pytest.fixture(autouse=True)
def undisturbed(server, witness):
    yield
    witness.pong()
    general = server.channel("general")
    text = f"still here {time.monotonic_ns()}"
    server.say("bob", general, text)
    witness.wait_text(text)


def rtm(server, name="alice"):
    return Client(server, name).connect()


def is_error(value):
    error = value.get("error")
    told = value.get("ok") is False or value.get("type") == "error"
    return told and isinstance(error, dict) and isinstance(error["code"], int) and error["msg"] and isinstance(error["msg"], str)


@pytest.mark.parametrize(
    "text",
    [
        "{", "nonsense", "", "[]", "[1,2]", "null", "42", '"text"', "{}", '{"type":7}', '{"id":1}', '{"type":"no_such_type","id":1}',
        '{"type":"message","id":1,"channel":7,"text":"x"}', '{"type":"message","id":1,"channel":"C1","text":{}}', '{"type":"message","id":1,"text":"x"}',
        '{"type":"typing","id":1}', '{"type":"typing","id":1,"channel":[]}', '{"type":"presence_sub","id":1,"ids":"U1"}', '{"type":"presence_sub","id":1,"ids":[1,2]}',
        '{"type":"message","id":1,"channel":"C0NOSUCH","text":"x"}', '{"type":"typing","id":1,"channel":"C0NOSUCH"}',
        "[" * 8_000, '{"a":' * 3_000, '{"type":"ping","id":1e999}', '{"type":"message","id":1,"channel":"C1","text":"\\ud800"}', "\x00",
    ],
)
def test_a_frame_that_makes_no_sense_is_answered_with_an_error_and_the_connection_goes_on(server, text):
    client = rtm(server)
    client.socket.send(text)
    assert is_error(client.wait("an error", lambda value: "error" in value)), text
    client.pong()


@pytest.mark.parametrize("id", [0, -1, 1.5, "7", None, True, 2**63, [1]])
def test_ids_of_any_kind_are_borne(server, id):
    client = rtm(server)
    client.socket.send({"type": "ping", "id": id, "probe": 1})
    value = client.wait("pong or error", lambda value: value.get("type") in ("pong", "error") or value.get("ok") is False)
    assert value.get("probe") == 1 or is_error(value)
    client.pong()


def test_who_is_not_a_member_may_not_write_and_not_type(server):
    channel = server.new_channel("closed-circle", "bob")
    client = rtm(server)
    assert is_error(client.post(channel, "hello"))
    client.send("typing", channel=channel)
    assert is_error(client.wait("an error", lambda value: "error" in value))
    assert [event["type"] for event in server.events("bob", channel) if event["type"] == "message" and "subtype" not in event] == []


def test_a_second_resume_and_one_without_wish_are_errors(server):
    client = rtm(server)
    client.resume(client.positions)
    assert is_error(client.wait("an error", lambda value: "error" in value))
    plain = Client(server, "alice").connect(resume=False)
    plain.resume(plain.positions)
    assert is_error(plain.wait("an error", lambda value: "error" in value))


def test_more_than_500_presence_ids_are_an_error(server):
    client = rtm(server)
    client.send("presence_sub", ids=[f"U{count:04}" for count in range(501)])
    assert is_error(client.wait("an error", lambda value: "error" in value))
    client.send("presence_sub", ids=[f"U{count:04}" for count in range(500)])
    client.pong()


@pytest.mark.parametrize("pieces", [1, 4])
def test_20_kilobytes_end_the_connection_with_1009_and_store_nothing(server, pieces):
    client = rtm(server)
    general = server.channel("general")
    tip = server.tip("alice", general)
    frame = ('{"type":"message","id":1,"channel":"%s","text":"%s"}' % (general, "x" * 20_000)).encode()
    size = len(frame) // pieces + 1
    for at in range(0, len(frame), size):
        client.socket.send(frame[at : at + size], TEXT if at == 0 else 0, fin=at + size >= len(frame))
    assert client.socket.ended()[0] == 1009
    assert server.tip("alice", general) == tip


def test_16384_bytes_are_borne(server):
    client = rtm(server)
    head, tail = '{"type":"ping","id":9,"pad":"', '"}'
    client.socket.send(head + "x" * (16_384 - len(head) - len(tail)) + tail)
    assert client.wait("pong", lambda value: value.get("type") == "pong")["reply_to"] == 9


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        (1007, lambda client: client.send(b'{"type":"ping","id":1,"x":"\xff\xfe"}')),
        (1007, lambda client: client.send(b"\xed\xa0\x80")),
        (1003, lambda client: client.send(b"\x00\x01\x02", BINARY)),
        (1002, lambda client: client.send('{"type":"ping","id":1}', masked=False)),
        (1002, lambda client: client.raw(b"\xc1\x80\x00\x00\x00\x00")),
        (1002, lambda client: client.raw(b"\x83\x80\x00\x00\x00\x00")),
        (1002, lambda client: client.send(b"x" * 126, 9)),
        (1002, lambda client: client.send(b"no beginning", 0)),
        (1002, lambda client: client.send(b"\x03", CLOSE)),
        (1002, lambda client: client.send(b"\x03\xec", CLOSE)),
        (1009, lambda client: client.raw(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00")),
    ],
    ids=["utf8", "surrogate", "binary", "unmasked", "rsv", "reserved-opcode", "long-ping", "continuation", "close-1-byte", "close-1004", "huge-length"],
)
def test_broken_frames_end_the_connection_with_their_code(server, code, raw):
    client = rtm(server)
    raw(client.socket)
    assert client.socket.ended()[0] == code


def test_many_small_fragments_are_an_attack(server):
    client = rtm(server)
    client.socket.send(b"{", TEXT, fin=False)
    for _ in range(200):
        client.socket.send(b" ", 0, fin=False)
    assert client.socket.ended()[0] in (1008, 1009)


def test_pings_without_measure_are_an_attack(server):
    client = rtm(server)
    for _ in range(2_000):
        client.socket.send(b"x", 9)
    assert client.socket.ended()[0] == 1008


def test_a_close_is_answered_with_the_same_code(server):
    client = rtm(server)
    client.socket.send(b"\x03\xe8bye", CLOSE)
    assert client.socket.ended()[0] == 1000


def test_a_plain_request_on_the_websocket_port_is_served_and_may_not_upgrade_later(server):
    plain = Socket(server.ws + "/", shake=False)
    plain.raw(b"GET /api/api.test HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers = plain.head()
    assert status == 200
    while len(plain.bytes) < int(headers["content-length"]):
        plain.more()
    plain.bytes.clear()
    plain.raw(b"GET /websocket/x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    status, headers = plain.head()
    assert status == 426 and headers["upgrade"].lower() == "websocket"


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GARBAGE\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n", {400}),
        (b"POST /websocket/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", {400, 405}),
        (b"GET /websocket/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", {400}),
        (b"GET /websocket/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", {426, 400}),
        (b"GET /no/such/path HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", {404}),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", {431}),
    ],
    ids=["garbage", "tls", "post", "no-key", "old-version", "no-path", "too-long"],
)
def test_a_broken_upgrade_is_refused_with_a_status(server, request_bytes, statuses):
    plain = Socket(server.ws + "/", shake=False)
    plain.raw(request_bytes)
    assert plain.head()[0] in statuses


def closes(plain, seconds):
    """Whatever is answered, the server hangs up within `seconds`."""
    plain.socket.settimeout(seconds)
    while True:
        try:
            if not plain.socket.recv(4096):
                return
        except ConnectionError:
            return


@pytest.mark.parametrize("drip", [False, True], ids=["half-a-handshake", "a-header-that-never-ends"])
def test_a_handshake_that_does_not_end_is_ended(server, drip):
    plain = Socket(server.ws + "/websocket/x", shake=False)
    plain.raw(plain.request()[:-2])
    begun = time.monotonic()
    plain.socket.settimeout(0.2)
    while time.monotonic() - begun < 15:
        try:
            if drip:
                plain.socket.sendall(b"X-Slow: 1\r\n")
            if plain.socket.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert time.monotonic() - begun < 12, "it was not ended"


def test_a_thousand_connections_that_say_nothing_keep_nobody_out(server):
    idle = [socket.create_connection((server.ws_at.split(":")[0], int(server.ws_at.split(":")[1])), 5) for _ in range(1_000)]
    client = rtm(server)
    client.pong()
    for plain in idle:
        plain.close()
    client.pong()
