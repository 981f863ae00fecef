"""A client of our own, small and blunt: raw bytes on the websocket, and positions kept as the protocol asks."""

import base64
import json
import os
import socket
import struct
import time
import urllib.parse

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Ended(Exception):
    """The server ended the stream. `code` is of its Close frame, None without one."""

    def __init__(self, code, reason=""):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Socket:
    """One websocket, spoken by hand."""

    def __init__(self, url, shake=True, receive_bytes=None, seconds=10):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.path = parts.hostname, parts.port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(seconds)
        self.socket.connect((self.host, self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = bytearray()
        self.pinged = []
        if shake:
            self.shake()

    def request(self, **more):
        headers = {
            "Host": f"{self.host}:{self.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **more,
        }
        lines = [f"GET {self.path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items() if value is not None)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def shake(self):
        self.socket.sendall(self.request())
        status, _ = self.head()
        assert status == 101, f"upgrade answered with {status}"

    def head(self):
        """Status and headers of an HTTP answer."""
        while b"\r\n\r\n" not in self.bytes:
            self.more()
        head, _, rest = bytes(self.bytes).partition(b"\r\n\r\n")
        self.bytes = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), {key.lower(): value.strip() for key, value in (line.split(":", 1) for line in lines)}

    def more(self):
        try:
            chunk = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            raise Ended(None, "reset") from None
        if not chunk:
            raise Ended(None, "end of stream")
        self.bytes += chunk

    def send(self, payload, opcode=TEXT, fin=True, masked=True):
        if isinstance(payload, (dict, list)):
            payload = json.dumps(payload)
        if isinstance(payload, str):
            payload = payload.encode()
        length = len(payload)
        head = bytes([(0x80 if fin else 0) | opcode])
        bit = 0x80 if masked else 0
        if length < 126:
            head += bytes([bit | length])
        elif length < 65536:
            head += struct.pack("!BH", bit | 126, length)
        else:
            head += struct.pack("!BQ", bit | 127, length)
        if masked:
            mask = os.urandom(4)
            long = (mask * (length // 4 + 1))[:length]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(long, "big")).to_bytes(length, "big") if length else b""
            head += mask
        self.raw(head + payload)

    def raw(self, data):
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            pass  # what the server said before is still to be read

    def frame(self):
        """(opcode, payload) of the next frame. Servers never mask and never fragment."""
        while True:
            have = len(self.bytes)
            if have >= 2:
                first, second = self.bytes[0], self.bytes[1]
                assert first & 0x80 and not first & 0x70, f"fragment or reserved bits: {first:#x}"
                assert not second & 0x80, "a server masked"
                length, at = second & 0x7F, 2
                if length == 126 and have >= 4:
                    length, at = struct.unpack("!H", self.bytes[2:4])[0], 4
                elif length == 127 and have >= 10:
                    length, at = struct.unpack("!Q", self.bytes[2:10])[0], 10
                elif length >= 126:
                    length = None
                if length is not None and have >= at + length:
                    payload = bytes(self.bytes[at : at + length])
                    del self.bytes[: at + length]
                    return first & 15, payload
            self.more()

    def message(self, seconds=10):
        """The next text message as a value. Pings are answered, Close ends it."""
        due = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(0.01, due - time.monotonic()))
            try:
                opcode, payload = self.frame()
            except TimeoutError:
                raise AssertionError(f"nothing came within {seconds} s") from None
            if opcode == PING:
                self.pinged.append(payload)
                self.send(payload, PONG)
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                self.send(payload[:2], CLOSE)
                raise Ended(code, payload[2:].decode())
            elif opcode == TEXT:
                return json.loads(payload)

    def ended(self, seconds=10):
        """Reads on to the end: (code of the Close frame or None, messages before it)."""
        due, before = time.monotonic() + seconds, []
        while True:
            try:
                before.append(self.message(max(0.01, due - time.monotonic())))
            except Ended as end:
                return end.code, before

    def close(self):
        self.socket.close()


class Client:
    """A client with positions. Keeps everything durable that it was given, by channel and seq, and judges the order."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.positions = {}  # seq_of -> highest contiguous seq held
        self.seen = {}  # seq_of -> {seq: event, or the ack that took its place}
        self.gaps = []
        self.unanswered = {}  # id of an RTM message -> channel
        self.epoch = self.socket = None
        self.next_id = 0

    def connect(self, resume=True, named=None, at=None, **socket):
        """rtm.connect, hello, positions. `named`: only these channels are resumed. `at`: a gateway, instead of the one that it is sent to."""
        self.boot = self.server.call(self.name, "rtm.connect", batch_presence_aware="1", **({"resume": "true"} if resume else {}))
        url = self.boot["url"]
        self.socket = Socket(at + urllib.parse.urlsplit(url).path if at else url, **socket)
        self.hello = self.socket.message()
        assert self.hello["type"] == "hello", self.hello
        self.epoch = self.epoch or self.hello["epoch"]
        self.given = {}  # seq_of -> last seq that this connection gave
        self.unanswered.clear()
        for channel, tip in self.boot["positions"].items():
            if not resume or channel not in self.positions or (named is not None and channel not in named):
                self.positions[channel] = tip  # everything from the ticket's offsets on is owed to us
        if resume:
            self.resume({channel: at for channel, at in self.positions.items() if named is None or channel in named})
        return self

    def resume(self, positions, epoch=None):
        """In two frames, as a client with many channels would."""
        names = list(positions)
        for part, last in ((names[: len(names) // 2], False), (names[len(names) // 2 :], True)):
            frame = {"type": "resume", "epoch": epoch or self.epoch, "positions": {name: positions[name] for name in part}}
            self.socket.send({**frame, "last": True} if last else frame)

    def send(self, type, **fields):
        self.next_id += 1
        self.socket.send({"id": self.next_id, "type": type, **fields})
        return self.next_id

    def post(self, channel, text, **fields):
        """An RTM message, to its ack."""
        wanted = self.send("message", channel=channel, text=text, **fields)
        self.unanswered[wanted] = channel
        return self.wait(f"the ack of {wanted}", lambda value: value.get("reply_to") == wanted)

    def take(self, seconds=10):
        """The next frame; durable ones are judged and kept."""
        value = self.socket.message(seconds)
        if value.get("type") == "gap":
            self.gap(value)
        elif "reply_to" in value:
            channel = self.unanswered.pop(value["reply_to"], None)
            if value.get("ok") and channel:
                self.hold(channel, value["seq"], value)
        elif "seq" in value:
            self.durable(value["seq_of"], value["seq"], value)
        return value

    def durable(self, channel, seq, value):
        last = self.given.get(channel, 0)
        assert seq > last, f"{self.name} was given {channel} {seq} after {last}: {value}"
        self.given[channel] = seq
        known = self.seen.get(channel, {}).get(seq)
        # An own message that was acknowledged above the position may come again.
        assert known is None or "reply_to" in known, f"{self.name} was given {channel} {seq} twice: {value}"
        self.hold(channel, seq, value)

    def hold(self, channel, seq, value):
        held = self.seen.setdefault(channel, {})
        held[seq] = value
        at = self.positions.get(channel, seq - 1)
        while at + 1 in held:
            at += 1
        self.positions[channel] = at

    def gap(self, value):
        self.gaps.append(value)
        channel, at = value["seq_of"], self.positions.get(value["seq_of"], 0)
        assert value["from"] == at + 1 and value["to"] >= value["from"], f"{value} at {at}"
        self.positions[channel] = value["to"]

    def wait(self, what, wanted, seconds=10):
        """Takes frames until one fits."""
        due = time.monotonic() + seconds
        while True:
            left = due - time.monotonic()
            assert left > 0, f"not within {seconds} s: {what}"
            value = self.take(left)
            if wanted(value):
                return value

    def wait_text(self, text, seconds=10):
        return self.wait(text, lambda value: value.get("type") == "message" and value.get("text") == text, seconds)

    def pong(self, **fields):
        """Says ping and takes everything up to its pong."""
        wanted = self.send("ping", **fields)
        return self.wait("pong", lambda value: value.get("type") == "pong" and value.get("reply_to") == wanted)

    def catch_up(self, seconds=20):
        """Takes frames until every position reached what the ticket named."""
        due = time.monotonic() + seconds
        while any(self.positions.get(name, tip) < tip for name, tip in self.boot["positions"].items()):
            assert time.monotonic() < due, f"{self.name} stands at {self.positions}, owed {self.boot['positions']}"
            self.take(due - time.monotonic())
        return self

    def catch_up_to(self, channel, seq, seconds=20):
        due = time.monotonic() + seconds
        while self.positions.get(channel, 0) < seq:
            assert time.monotonic() < due, f"{self.name} stands at {self.positions.get(channel)} of {channel}, owed {seq}"
            self.take(due - time.monotonic())
        return self

    def texts(self, channel):
        """What was said there, in the channel's order."""
        return [value["text"] for _, value in sorted(self.seen.get(channel, {}).items()) if "text" in value]

    def drop(self):
        """The connection is gone, without a word."""
        self.socket.close()
        return self


def comes_in(client, **how):
    """The client, if the server lets it in: a gateway that has just started does not know its webapp yet."""
    try:
        return client.connect(**how)
    except AssertionError:
        return None
