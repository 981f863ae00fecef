"""centrifuge-python, unmodified, in JSON and Protobuf: who may come in, subscribe, publish, ask for the past, recover."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
import urllib.request

import pytest
from centrifuge import (
    Client,
    ClientEventHandler,
    CentrifugeError,
    ReplyError,
    SubscriptionEventHandler,
    SubscriptionState,
)

from harness import Server


def jwt(secret, **claims):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    mac = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def api(server, method, **arguments):
    door = server.workspace["centrifuge"]
    request = urllib.request.Request(
        f"{door['api_url']}/{method}", json.dumps(arguments).encode(), {"X-API-Key": door["api_key"], "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


class Heard(SubscriptionEventHandler):
    def __init__(self):
        self.publications, self.subscribed, self.unsubscribed, self.errors = [], [], [], []

    async def on_publication(self, ctx):
        self.publications.append(ctx.pub)

    async def on_subscribed(self, ctx):
        self.subscribed.append(ctx)

    async def on_unsubscribed(self, ctx):
        self.unsubscribed.append(ctx)

    async def on_error(self, ctx):
        self.errors.append(ctx)

    @property
    def data(self):
        return [publication.data for publication in self.publications]


class Watched(ClientEventHandler):
    def __init__(self):
        self.connected, self.disconnected, self.connecting, self.errors = [], [], [], []

    async def on_connected(self, ctx):
        self.connected.append(ctx)

    async def on_connecting(self, ctx):
        self.connecting.append(ctx)

    async def on_disconnected(self, ctx):
        self.disconnected.append(ctx)

    async def on_error(self, ctx):
        self.errors.append(ctx)


async def until(what, fact, seconds=10):
    due = time.monotonic() + seconds
    while not (answer := fact()):
        assert time.monotonic() < due, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
    return answer


@pytest.fixture(scope="module")
def server():
    with Server("--ephemeral", "--cores", "2") as one:
        yield one


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
def framing(request):
    return request.param


class Someone:
    """A client with its user's token."""

    def __init__(self, server, user, use_protobuf, **options):
        door = server.workspace["centrifuge"]
        self.events = Watched()
        self.token = options.pop("token", None) or jwt(door["token_secret"], sub=user)
        self.protobuf = use_protobuf
        self.client = Client(door["url"], events=self.events, token=self.token, use_protobuf=use_protobuf, **options)

    def pack(self, value):
        return json.dumps(value).encode() if self.protobuf else value

    def unpack(self, data):
        return json.loads(data) if self.protobuf else data

    def heard(self, heard):
        return [self.unpack(data) for data in heard.data]

    async def __aenter__(self):
        await self.client.connect()
        await self.client.ready(5)
        return self

    async def __aexit__(self, *_):
        await self.client.disconnect()

    async def subscribe(self, channel, **options):
        heard = Heard()
        subscription = self.client.new_subscription(channel, events=heard, **options)
        await subscription.subscribe()
        await subscription.ready(5)
        return subscription, heard


def story(test):
    """Runs a coroutine as a test."""

    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = __import__("inspect").signature(test)
    return run


@story
async def test_who_publishes_is_heard_by_all_in_order_and_with_a_place(server, framing):
    async with Someone(server, "42", framing) as one, Someone(server, "43", not framing) as other:
        channel = f"order-{framing}"
        subscription, mine = await one.subscribe(channel)
        _, theirs = await other.subscribe(channel)
        for count in range(100):
            await subscription.publish(one.pack({"count": count}))
        await until("all publications", lambda: len(mine.data) == len(theirs.data) == 100)
        expected = [{"count": count} for count in range(100)]
        assert one.heard(mine) == other.heard(theirs) == expected
        assert [publication.offset for publication in mine.publications] == list(range(1, 101))
        assert mine.publications[0].info.user == "42"
        assert mine.publications[0].info.client == one.events.connected[0].client


@story
async def test_a_back_end_publishes_by_http(server, framing):
    async with Someone(server, "42", framing) as one:
        _, heard = await one.subscribe(f"back-{framing}")
        answer = api(server, "publish", channel=f"back-{framing}", data={"a": "\n"}, tags={"k": "v"})
        assert answer["result"]["offset"] == 1 and answer["result"]["epoch"]
        replies = api(server, "batch", commands=[{"publish": {"channel": f"back-{framing}", "data": count}} for count in range(50)])["replies"]
        assert [reply["publish"]["offset"] for reply in replies] == list(range(2, 52))
        both = api(server, "broadcast", channels=[f"back-{framing}", "un:known"], data=[1])["result"]["responses"]
        assert both[0]["result"]["offset"] == 52 and both[1]["error"]["code"] == 102
        await until("all publications", lambda: len(heard.data) == 52)
        assert one.heard(heard) == [{"a": "\n"}, *range(50), [1]]
        assert heard.publications[0].tags == {"k": "v"}
        past = api(server, "history", channel=f"back-{framing}", limit=2, reverse=True)["result"]
        assert [one["offset"] for one in past["publications"]] == [52, 51] and past["offset"] == 52


@story
async def test_the_past_can_be_asked_for(server, framing):
    async with Someone(server, "42", framing) as one:
        channel = f"past-{framing}"
        subscription, _ = await one.subscribe(channel)
        for count in range(20):
            await subscription.publish(one.pack(count))
        position = await subscription.history()
        assert position.offset == 20 and position.epoch and not position.publications
        everything = await subscription.history(limit=-1)
        assert [one.unpack(item.data) for item in everything.publications] == list(range(20))
        from centrifuge import StreamPosition

        some = await subscription.history(limit=3, since=StreamPosition(offset=5, epoch=position.epoch))
        assert [item.offset for item in some.publications] == [6, 7, 8]
        back = await subscription.history(limit=3, since=StreamPosition(offset=5, epoch=position.epoch), reverse=True)
        assert [item.offset for item in back.publications] == [4, 3, 2]
        with pytest.raises(ReplyError) as refused:
            await subscription.history(limit=3, since=StreamPosition(offset=5, epoch="another"))
        assert refused.value.code == 112


@story
async def test_who_comes_back_has_missed_nothing(server, framing):
    async with Someone(server, "42", framing) as one:
        channel = f"recovery-{framing}"
        subscription, heard = await one.subscribe(channel)
        for turn in range(3):
            api(server, "publish", channel=channel, data=[turn, "here"])
            await until("the live one", lambda: len(heard.data) == turn * 11 + 1)
            await one.client.disconnect()
            for count in range(10):
                api(server, "publish", channel=channel, data=[turn, count])
            await one.client.connect()
            await until("what was missed", lambda: len(heard.data) == turn * 11 + 11)
        assert one.heard(heard) == [[turn, what] for turn in range(3) for what in ["here", *range(10)]]
        assert [item.offset for item in heard.publications] == list(range(1, 34))
        assert all(ctx.recovered and ctx.was_recovering for ctx in heard.subscribed[1:])


@story
async def test_who_missed_too_much_is_told(server, framing):
    async with Someone(server, "42", framing) as one:
        channel = f"toomuch-{framing}"
        subscription, heard = await one.subscribe(channel)
        await one.client.disconnect()
        api(server, "batch", commands=[{"publish": {"channel": channel, "data": count}} for count in range(301)])
        await one.client.connect()
        await until("the second subscription", lambda: len(heard.subscribed) == 2)
        again = heard.subscribed[1]
        assert again.was_recovering and not again.recovered and again.stream_position.offset == 301
        api(server, "publish", channel=channel, data="next")
        await until("the next one", lambda: heard.data)
        assert one.heard(heard) == ["next"]


@story
async def test_an_unsubscribed_client_hears_nothing(server, framing):
    async with Someone(server, "42", framing) as one:
        subscription, heard = await one.subscribe(f"left-{framing}")
        await subscription.unsubscribe()
        api(server, "publish", channel=f"left-{framing}", data=1)
        other, _ = await one.subscribe(f"left-{framing}-2")
        await other.publish(one.pack(1))
        assert not heard.data and subscription.state is SubscriptionState.UNSUBSCRIBED


@story
async def test_a_bad_token_does_not_come_in(server, framing):
    secret = server.workspace["centrifuge"]["token_secret"]
    for token in [jwt("guess", sub="42"), "nonsense", jwt(secret, sub="42", channel="a")]:
        bad = Someone(server, "42", framing, token=token)
        await bad.client.connect()
        await until("the end", lambda: bad.events.disconnected)
        assert bad.events.disconnected[0].code == 3500


@story
async def test_an_expired_token_is_replaced(server, framing):
    secret = server.workspace["centrifuge"]["token_secret"]
    asked = []

    async def fresh():
        asked.append(1)
        return jwt(secret, sub="42")

    old = jwt(secret, sub="42", exp=int(time.time()) - 5)
    one = Someone(server, "42", framing, token=old, get_token=fresh)
    await one.client.connect()
    await one.client.ready(5)
    assert asked
    await one.client.disconnect()


@story
async def test_a_channel_that_cannot_be_is_refused(server, framing):
    async with Someone(server, "42", framing) as one:
        for channel, code in [("un:known", 102), ("x" * 256, 107), ("caf\u00e9", 107), ("$private", 103)]:
            heard = Heard()
            subscription = one.client.new_subscription(channel, events=heard)
            await subscription.subscribe()
            await until("the refusal", lambda: heard.unsubscribed)
            assert heard.unsubscribed[0].code == code, channel
        with pytest.raises(ReplyError) as refused:
            await one.client.rpc("method", one.pack({}))
        assert refused.value.code == 108


@story
async def test_a_thousand_and_one_channels_are_one_too_many(server, framing):
    async with Someone(server, "42", framing) as one:
        for count in range(1_000):
            await one.subscribe(f"many-{framing}-{count}")
        heard = Heard()
        subscription = one.client.new_subscription("one-more", events=heard)
        await subscription.subscribe()
        await until("the refusal", lambda: heard.unsubscribed)
        assert heard.unsubscribed[0].code == 106
