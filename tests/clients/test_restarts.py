"""Two hundred clients publish while the server is restarted ten times, by a kill or by a goodbye.

Workspace channels: every acknowledged publication is there exactly once, every unacknowledged one at most once, at everyone who stays or
resumes. Memory channels: something is lost only together with a change of the epoch.
"""

import asyncio
import collections
import itertools
import json
import random
import uuid

import websockets

from harness import Server
from test_centrifuge import jwt

CLIENTS = 200
RESTARTS = 10
USERS = ("alice", "bob", "carol")
LIMITS = ("posts_burst=100000", "posts_per_1000_seconds=100000000", "boots_burst=100000", "boots_per_second=100000")


class Story:
    """What all clients know of each other."""

    def __init__(self, server):
        self.server = server
        self.workspace = f"workspace:{server.channel('general')}"
        self.url = server.workspace["centrifuge"]["url"]
        self.is_over = False
        self.acked, self.tried = set(), set()
        self.memory_acked = 0


class Member:
    """One client: comes back with its places, and keeps all that it hears."""

    def __init__(self, story, nth):
        self.story, self.nth = story, nth
        self.random = random.Random(nth)
        server = story.server
        self.token = jwt(server.workspace["centrifuge"]["token_secret"], sub=server.id(USERS[nth % len(USERS)]))
        self.ids, self.posts = itertools.count(1), itertools.count(1)
        # Channels of subscriptions, by the number of the command.
        self.asked = {}
        # By channel: (epoch, offset), and what was heard.
        self.places = {}
        self.texts, self.offsets = collections.Counter(), []
        self.numbers = []
        self.unrecovered = collections.Counter()
        self.returns = 0
        self.unsaid = None

    async def live(self):
        while not self.story.is_over:
            try:
                async with websockets.connect(self.story.url, open_timeout=5, ping_interval=None, compression=None) as socket:
                    await self.talk(socket)
            except (OSError, asyncio.TimeoutError, websockets.WebSocketException):
                self.returns += 1
                await asyncio.sleep(0.05 + self.random.random() * 0.2)

    async def talk(self, socket):
        self.waiting = {}
        hearing = asyncio.create_task(self.hear(socket))
        try:
            await self.ask(socket, "connect", token=self.token)
            for channel in (self.story.workspace, "memory"):
                await self.subscribe(socket, channel)
            while not self.story.is_over and not hearing.done():
                await self.publish(socket)
                # A recovery has at most 512 KiB: all of them together say less while one is away.
                await asyncio.sleep(self.random.random() * 3)
        finally:
            hearing.cancel()
            for one in self.waiting.values():
                one.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def ask(self, socket, what, **fields):
        nth = next(self.ids)
        if what == "subscribe":
            self.asked[nth] = fields["channel"]
        answer = self.waiting[nth] = asyncio.get_running_loop().create_future()
        await socket.send(json.dumps({"id": nth, what: fields}))
        reply = await asyncio.wait_for(answer, 10)
        return reply

    async def subscribe(self, socket, channel):
        since = self.places.get(channel)
        fields = {"recover": True, "epoch": since[0], "offset": since[1]} if since else {}
        # A subscription that the server could not judge yet is asked for again.
        while "error" in (reply := await self.ask(socket, "subscribe", channel=channel, **fields)):
            assert reply["error"].get("temporary"), reply
            await asyncio.sleep(0.1)

    async def publish(self, socket):
        text, key = self.unsaid or (f"said {self.nth}-{next(self.posts)}", str(uuid.uuid4()))
        self.story.tried.add(text)
        # One in three is not said again when nobody acknowledges it.
        self.unsaid = (text, key) if self.random.random() < 0.67 or self.unsaid else None
        said = self.unsaid
        reply = await self.ask(socket, "publish", channel=self.story.workspace, data={"text": text, "client_msg_id": key})
        if "publish" in reply:
            self.story.acked.add(text)
        if "publish" in reply or not reply["error"].get("temporary"):
            self.unsaid = None
        assert said is None or "publish" in reply or reply["error"].get("temporary"), reply
        await self.ask(socket, "publish", channel="memory", data={"of": self.nth})

    async def hear(self, socket):
        async for message in socket:
            for line in message.split("\n"):
                reply = json.loads(line)
                if not reply:
                    await socket.send("{}")
                elif "push" in reply:
                    push = reply["push"]
                    assert "pub" in push, push
                    self.heard(push["channel"], push["pub"])
                else:
                    if "subscribe" in reply:
                        self.subscribed(reply)
                    answer = self.waiting.pop(reply["id"], None)
                    if answer and not answer.done():
                        answer.set_result(reply)

    def subscribed(self, reply):
        result, channel = reply["subscribe"], self.asked.pop(reply["id"])
        since = self.places.get(channel)
        if since and not result.get("recovered", False):
            self.unrecovered[channel] += 1
            assert result["epoch"] != since[0], f"{channel}: a loss within one epoch: {since}, {result}"
        offset = result.get("offset", 0)
        if since and result.get("recovered", False):
            assert (result["epoch"], offset) == since
        self.places[channel] = (result["epoch"], offset)
        for one in result.get("publications", []):
            self.heard(channel, one)

    def heard(self, channel, publication):
        epoch, last = self.places[channel]
        assert publication["offset"] == last + 1, (channel, last, publication)
        self.places[channel] = (epoch, publication["offset"])
        if channel == self.story.workspace:
            self.texts[publication["data"].get("text")] += 1
            self.offsets.append(publication["offset"])
        else:
            self.numbers.append((epoch, publication["offset"]))


def test_two_hundred_clients_and_ten_restarts(tmp_path):
    flags = [word for limit in LIMITS for word in ("--limit", limit)]
    with Server("--cores", "2", "--drain", "1", *flags, data=tmp_path / "data") as server:
        story = Story(server)
        members = [Member(story, nth) for nth in range(CLIENTS)]

        async def restart():
            for nth in range(RESTARTS):
                await asyncio.sleep(1.5)
                if nth % 2:
                    server.term()
                    await asyncio.to_thread(server.ended)
                else:
                    server.kill()
                await asyncio.to_thread(server.up)
            # Everybody comes back, and says what was not acknowledged.
            await asyncio.sleep(4)
            story.is_over = True

        async def everything():
            living = [asyncio.create_task(member.live()) for member in members]
            await restart()
            done, pending = await asyncio.wait(living, timeout=30)
            assert not pending, f"{len(pending)} never end"
            for one in done:
                one.result()

        asyncio.run(everything())
        # What was said last arrives at everybody who comes once more.
        last = Story(server)
        last.acked, last.tried = story.acked, story.tried

        async def listen(member):
            async with websockets.connect(story.url, ping_interval=None, compression=None) as socket:
                member.waiting = {}
                hearing = asyncio.create_task(member.hear(socket))
                await member.ask(socket, "connect", token=member.token)
                await member.subscribe(socket, story.workspace)
                hearing.cancel()

        async def all_listen():
            await asyncio.gather(*(listen(member) for member in members))

        asyncio.run(all_listen())
        tips = {member.places[story.workspace][1] for member in members}
        assert len(tips) == 1, tips
        assert len(story.acked) > CLIENTS * 3, "they said much"
        assert sum(member.returns for member in members) >= CLIENTS * RESTARTS / 2, "they were thrown out"
        for member in members:
            assert not member.unrecovered[story.workspace], "a conversation is recovered whole"
            assert member.unrecovered["memory"] >= 1, "a memory channel has a new epoch"
            first = member.offsets[0]
            assert member.offsets == list(range(first, first + len(member.offsets)))
            assert all(count == 1 for count in member.texts.values()), "twice"
            # Who came first has heard all of it.
        everything_said = collections.Counter()
        longest = max(members, key=lambda member: len(member.offsets))
        everything_said.update(longest.texts)
        assert story.acked <= set(everything_said), story.acked - set(everything_said)
        assert set(everything_said) <= story.tried
        for member in members:
            missing = {text for text in story.acked if text not in member.texts}
            # Only what was said before it first came.
            early = set(list(longest.texts)[: member.offsets[0] - longest.offsets[0]])
            assert missing <= early, missing - early
