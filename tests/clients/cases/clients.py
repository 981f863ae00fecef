"""Clients by the hundred in one process: each comes back with its positions, and logs all that it hears and is told.

`python -m cases.clients SPEC.json`, where the specification has the addresses, the log and the clients. A line "up" on stdout says that all
are there; a line on stdin says how far each of them has to come before the end, and how long that may take.

A line of the log is [client, time, what, ...]:
  heard CHANNEL EPOCH AT TEXT       something was delivered, at a position
  up GATEWAY                        it follows all of its channels, and has what it missed
  down CODE                         its connection ended
  told CHANNEL EPOCH AT EPOCH AT    where it stood cannot be gone on from; where it stands now
  unsubscribed CHANNEL CODE         and from 2500 on it subscribes again
  fault WORDS                       it could not come in, or was refused something
  short CHANNEL EPOCH AT            where it stood in the end, which is not as far as it should
"""

import asyncio
import json
import random
import struct
import sys
import time
import urllib.parse

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
PATIENCE = 20
# A server has its bound of questions of one connection, 64.
ASKED_AT_ONCE = 32
# Between two attempts: at random between nothing and the spread, which doubles up to this.
SPREAD_MAX = 8


class Refused(Exception):
    pass


class Wire(asyncio.Protocol):
    """One websocket. What comes goes to `hear`; `ended` has the code in the end."""

    def __init__(self, host, path, hear):
        self.host, self.path, self.hear = host, path, hear
        self.bytes, self.is_open, self.code = bytearray(), False, None
        loop = asyncio.get_running_loop()
        self.opened, self.ended = loop.create_future(), loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {self.host}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Key: Y2FtcGFuaWxlIGlzIGEgYg==", "Sec-WebSocket-Version: 13", "", ""]
        transport.write("\r\n".join(lines).encode())

    def data_received(self, data):
        self.bytes += data
        if not self.is_open:
            head, found, rest = bytes(self.bytes).partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self.transport.abort()
                return
            self.bytes, self.is_open = bytearray(rest), True
            self.opened.set_result(None)
        at = 0
        while len(self.bytes) - at >= 2:
            length, start = self.bytes[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(self.bytes[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(self.bytes[at + 2 : at + 10], "big"), at + 10
            if len(self.bytes) < start + length:
                break
            opcode, payload = self.bytes[at] & 15, bytes(self.bytes[start : start + length])
            at = start + length
            if opcode == TEXT:
                self.hear(payload)
            elif opcode == PING:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big") if payload else None
                self.transport.close()
        del self.bytes[:at]

    def connection_lost(self, why):
        for future, result in ((self.opened, why or ConnectionResetError("no websocket")), (self.ended, None)):
            if not future.done():
                future.set_exception(result) if result else future.set_result(self.code)

    def send(self, payload, opcode=TEXT):
        """Masked, with a mask of nothing."""
        length = len(payload)
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
        if length >= 65536:
            head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
        self.transport.write(head + b"\0\0\0\0" + payload)


class Session:
    """What both dialects have in common: dial, follow, lose it, wait a while, come back somewhere else."""

    def __init__(self, crowd, nth, spec):
        self.crowd, self.nth, self.spec = crowd, nth, spec
        self.turn, self.is_over, self.is_up = spec.get("gateway", 0), False, False
        self.wire, self.waits_for = None, ""

    def log(self, what, *words):
        self.crowd.log.append([self.nth, round(time.monotonic(), 4), what, *words])

    async def run(self):
        spread = self.crowd.spread
        while not self.is_over:
            gateway = self.crowd.gateways[self.turn % len(self.crowd.gateways)]
            try:
                async with asyncio.timeout(PATIENCE):
                    gateway = await self.come(gateway) or gateway
                    await self.follow()
            except (OSError, TimeoutError, Refused) as why:
                self.log("fault", f"{gateway}: {self.waits_for}: {why!r}")
                if self.wire:
                    self.wire.transport.abort()
            else:
                self.log("up", gateway)
                self.is_up, spread = True, self.crowd.spread
                code = await self.wire.ended
                self.is_up = False
                if self.is_over:
                    return
                self.log("down", code)
            await asyncio.sleep(random.random() * spread)
            spread = min(SPREAD_MAX, spread * 2)
            self.turn += 1

    async def dial(self, gateway, path):
        self.waits_for = "a websocket"
        host, port = gateway.rsplit(":", 1)
        _, self.wire = await asyncio.get_running_loop().create_connection(lambda: Wire(gateway, path, self.hear), host, int(port))
        await self.wire.opened

    async def first(self, future):
        """What is waited for, or the end of the connection."""
        await asyncio.wait((future, self.wire.ended), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ConnectionResetError(f"it ended with {self.wire.code}")
        return future.result()


class Rtm(Session):
    """Follows every conversation of its user, by positions."""

    def __init__(self, *words):
        super().__init__(*words)
        self.positions, self.epoch, self.owed = {}, None, {}

    async def come(self, gateway):
        self.waits_for = "rtm.connect"
        region = self.spec.get("region")
        boot = await self.crowd.ask("rtm.connect", self.spec["token"], region, batch_presence_aware="1", resume="true")
        self.hello = asyncio.get_running_loop().create_future()
        self.caught_up = asyncio.get_running_loop().create_future()
        for channel, tip in boot["positions"].items():
            self.positions.setdefault(channel, tip)
        self.owed = {channel: tip for channel, tip in boot["positions"].items() if self.positions[channel] < tip}
        url = urllib.parse.urlsplit(boot["url"])
        gateway = url.netloc if region else gateway
        await self.dial(gateway, url.path)
        self.waits_for = "hello"
        hello = await self.first(self.hello)
        self.epoch = self.epoch or hello["epoch"]
        return gateway

    async def follow(self):
        frame = {"type": "resume", "epoch": self.epoch, "positions": self.positions, "last": True}
        self.wire.send(json.dumps(frame).encode())
        self.waits_for = "what it missed"
        if self.owed:
            await self.first(self.caught_up)

    def hear(self, payload):
        value = json.loads(payload)
        kind = value.get("type")
        if kind == "hello":
            self.hello.set_result(value)
        elif kind == "gap":
            channel = value["seq_of"]
            self.log("told", channel, None, value["from"] - 1, None, value["to"])
            self.stand(channel, value["to"])
        elif "seq" in value:
            channel, seq = value["seq_of"], value["seq"]
            if kind == "message" and "text" in value:
                self.log("heard", channel, None, seq, value["text"])
            if seq == self.positions.get(channel, seq - 1) + 1:
                self.stand(channel, seq)

    def stand(self, channel, seq):
        self.positions[channel] = seq
        if self.owed and seq >= self.owed.get(channel, seq + 1):
            del self.owed[channel]
            if not self.owed and not self.caught_up.done():
                self.caught_up.set_result(None)

    def stands_at(self, channel):
        return None, self.positions.get(channel, 0)


class Guest(Session):
    """A Centrifuge client in JSON, subscribed to its channels, which recovers them."""

    def __init__(self, *words):
        super().__init__(*words)
        # By the name without its namespace of conversations, as everybody else logs it.
        self.channels = {channel: channel.removeprefix("workspace:") for channel in self.spec["channels"]}
        self.places = {}
        self.ids, self.asked = 0, {}

    async def come(self, gateway):
        self.asked.clear()
        await self.dial(gateway, "/connection/websocket")
        self.waits_for = "connected"
        reply = await self.first(self.ask("connect", token=self.spec["token"]))
        if "error" in reply:
            raise Refused(reply["error"])

    async def follow(self):
        self.waits_for = "subscribed"
        channels = list(self.channels)
        for at in range(0, len(channels), ASKED_AT_ONCE):
            followed = await asyncio.gather(*(self.subscribe(channel) for channel in channels[at : at + ASKED_AT_ONCE]))
            if not all(followed):
                raise Refused("not subscribed to all")

    def ask(self, what, **fields):
        self.ids += 1
        future = asyncio.get_running_loop().create_future()
        self.asked[self.ids] = future, fields.get("channel")
        self.wire.send(json.dumps({"id": self.ids, what: fields}).encode())
        return future

    async def subscribe(self, channel):
        """Until it is. False: it may not be."""
        while True:
            place = self.places.get(channel)
            recover = {"recover": True, "epoch": place[0], "offset": place[1]} if place else {}
            reply = await self.first(self.ask("subscribe", channel=channel, **recover))
            if "subscribe" in reply:
                return True
            self.log("fault", f"subscribe {channel}: {reply['error']}")
            if not reply["error"].get("temporary"):
                return False
            await asyncio.sleep(random.random() * 0.2)

    def hear(self, payload):
        for line in payload.split(b"\n"):
            reply = json.loads(line)
            if "id" in reply:
                future, channel = self.asked.pop(reply["id"], (None, None))
                if "subscribe" in reply:
                    self.subscribed(channel, reply["subscribe"])
                if future and not future.done():
                    future.set_result(reply)
            elif "push" in reply:
                self.push(reply["push"])
            else:
                self.wire.send(b"{}")

    def subscribed(self, channel, reply):
        was, now = self.places.get(channel), (reply.get("epoch"), reply.get("offset", 0))
        if was and not reply.get("recovered"):
            self.log("told", self.channels[channel], *was, *now)
        self.places[channel] = (now[0], was[1]) if was and reply.get("recovered") else now
        for publication in reply.get("publications", []):
            self.publication(channel, publication)

    def push(self, push):
        channel = push.get("channel")
        if "pub" in push:
            self.publication(channel, push["pub"])
        elif "unsubscribe" in push:
            code = push["unsubscribe"]["code"]
            self.log("unsubscribed", self.channels[channel], code)
            # As the SDKs do: from 2500 on it is to come back.
            if code >= 2500:
                self.again = asyncio.create_task(self.come_back_to(channel))

    async def come_back_to(self, channel):
        try:
            await self.subscribe(channel)
        except OSError:
            pass  # The whole connection ended, and begins anew.

    def publication(self, channel, publication):
        epoch, data = self.places[channel][0], publication["data"]
        self.places[channel] = epoch, publication["offset"]
        if "text" in data:
            is_durable = self.channels[channel] != channel
            self.log("heard", self.channels[channel], None if is_durable else epoch, publication["offset"], data["text"])

    def stands_at(self, channel):
        known = {short: self.places.get(long) for long, short in self.channels.items()}
        return known.get(channel) or (None, 0)


class Crowd:
    def __init__(self, spec):
        self.spec, self.gateways, self.spread = spec, spec["gateways"], spec["spread"]
        self.log = []
        self.file = open(spec["log"], "w")
        kinds = {"rtm": Rtm, "guest": Guest}
        self.sessions = [kinds[one["kind"]](self, nth, one) for nth, one in enumerate(spec["clients"])]

    async def ask(self, method, token, region=None, **arguments):
        """One call of the Web API, maybe by somebody who knows where it is."""
        web = urllib.parse.urlsplit(self.spec["web"])
        body = urllib.parse.urlencode(arguments)
        lines = [f"POST /api/{method} HTTP/1.1", f"Host: {web.netloc}", f"Authorization: Bearer {token}", "Connection: close"]
        lines += [f"X-Region: {region}"] if region else []
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", "", body]
        reader, writer = await asyncio.open_connection(web.hostname, web.port)
        try:
            writer.write("\r\n".join(lines).encode())
            answer = await reader.read()
        finally:
            writer.close()
        _, _, body = answer.partition(b"\r\n\r\n")
        try:
            value = json.loads(body)
        except ValueError:
            raise Refused(answer[:200]) from None
        if not value.get("ok"):
            raise Refused(value.get("error"))
        return value

    async def run(self):
        tasks = []
        writing = asyncio.create_task(self.write_on())
        for nth, session in enumerate(self.sessions):
            tasks.append(asyncio.create_task(session.run()))
            # A door takes its time: nobody is refused for coming in a crowd.
            await asyncio.sleep(0.002 if nth % 8 else 0.01)
        while not all(session.is_up for session in self.sessions):
            await asyncio.sleep(0.05)
        print("up", flush=True)
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        asked = json.loads(line) if line else {"until": {}, "seconds": 0}
        due = time.monotonic() + asked["seconds"]
        while time.monotonic() < due and any(self.owed(session, asked["until"]) for session in self.sessions):
            await asyncio.sleep(0.05)
        for session in self.sessions:
            session.is_over = True
            for channel in self.owed(session, asked["until"]):
                session.log("short", channel, *session.stands_at(channel))
            if session.wire and session.wire.is_open:
                session.wire.transport.abort()
        for task in tasks:
            task.cancel()
        writing.cancel()
        self.write()
        self.file.close()
        print("over", flush=True)

    def owed(self, session, until):
        """The channels in which it has not come as far as it should."""
        owed = []
        for channel in session.spec["follows"]:
            if channel in until:
                (epoch, at), (its_epoch, its_at) = until[channel], session.stands_at(channel)
                if (epoch is not None and epoch != its_epoch) or its_at < at:
                    owed.append(channel)
        return owed

    async def write_on(self):
        while True:
            await asyncio.sleep(0.5)
            self.write()

    def write(self):
        lines, self.log[:] = self.log[:], []
        self.file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    asyncio.run(Crowd(spec).run())
