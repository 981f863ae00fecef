"""A cell whose webapp keeps everything in PostgreSQL: the server is started anew, the webapp is killed, and nobody misses a message.

`tests/postgres.sh cell` starts the server and names it.
"""

import os
import subprocess
import threading
import time
import urllib.parse
import uuid

import pytest

from cluster import Cell
from harness import until
from rtm import Client

URL, DATA, BIN, USER = (os.environ[name] for name in ("CAMPANILE_TEST_POSTGRES", "CAMPANILE_TEST_POSTGRES_DATA", "PG_BIN", "PG_USER"))


def pg_ctl(*words):
    command = [f"{BIN}/pg_ctl", "-D", DATA, "-l", f"{DATA}.log", "-w", *words]
    done = subprocess.run((["runuser", "-u", USER, "--"] if USER else []) + command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def cell():
    name = f"cell_{uuid.uuid4().hex[:12]}"
    subprocess.run([f"{BIN}/psql", URL, "-qc", f"CREATE DATABASE {name}"], check=True)
    url = urllib.parse.urlsplit(URL)._replace(path=f"/{name}").geturl()
    limits = ["--limit", "posts_burst=100000", "--limit", "posts_per_1000_seconds=1000000"]
    with Cell("cs1", "cs2", webapp=["--database", url, *limits]) as cell:
        yield cell


class Speaker(threading.Thread):
    """Says something every few milliseconds, each thing again under its own id until it is told that it was stored."""

    def __init__(self, cell, name, channels):
        super().__init__()
        self.client, self.channels = Client(cell.web, name).connect(), channels
        self.said, self.refused, self.is_over, self.fault = {channel: [] for channel in channels}, 0, False, None

    def run(self):
        try:
            n = 0
            while not self.is_over:
                channel, text = self.channels[n % len(self.channels)], f"{self.client.name} {n}"
                self.say(channel, text)
                n += 1
                time.sleep(0.005)
        except BaseException as fault:
            self.fault = fault

    def say(self, channel, text):
        due = time.monotonic() + 30
        while True:
            try:
                answer = self.client.post(channel, text, client_msg_id=text)
            except AssertionError:
                answer = {"ok": False}
            if answer["ok"]:
                return self.said[channel].append((answer["seq"], text))
            self.refused += 1
            assert time.monotonic() < due, f"{text}: {answer}"
            time.sleep(0.05)


class Listener(threading.Thread):
    def __init__(self, cell, name):
        super().__init__()
        self.client, self.is_over, self.fault = Client(cell.web, name).connect(), False, None

    def run(self):
        try:
            while not self.is_over:
                self.client.pong()
                time.sleep(0.005)
        except BaseException as fault:
            self.fault = fault


def test_the_server_is_started_anew_and_the_webapp_is_killed_and_nobody_misses_a_message(cell):
    web = cell.web
    channels = [web.new_channel(f"durable-{n}", "alice", "bob", "carol") for n in range(6)]
    speakers = [Speaker(cell, name, channels) for name in ("alice", "bob")]
    listeners = [Listener(cell, name) for name in ("carol", "carol", "alice")]
    threads = speakers + listeners
    for thread in threads:
        thread.start()

    def words():
        return sum(len(said) for speaker in speakers for said in speaker.said.values())

    def go_on(what, seconds=15):
        assert not [thread.fault for thread in threads if thread.fault]
        before, begun = words(), time.monotonic()
        until(seconds, f"words go on after {what}", lambda: words() > before + 50)
        print(f"{what}: {time.monotonic() - begun:.2f} s until fifty more words")

    def killed():
        web.kill()
        web.up()

    go_on("the start")
    for what, work in [
        ("a fast restart", lambda: pg_ctl("-m", "fast", "restart")),
        ("an immediate restart", lambda: pg_ctl("-m", "immediate", "restart")),
        ("the webapp was killed", killed),
    ]:
        work()
        go_on(what)
        time.sleep(1)
    for speaker in speakers:
        speaker.is_over = True
        speaker.join(60)
    until(10, "the database is well", lambda: web.metric("campanile_database_is_failing") == 0)
    until(20, "the outbox is empty", lambda: web.metric("campanile_outbox_in_flight") == 0)
    stored = {channel: [(event["seq"], event["text"]) for event in web.events("carol", channel) if event["type"] == "message"] for channel in channels}
    for channel, events in stored.items():
        texts = [text for _, text in events]
        assert len(texts) == len(set(texts)), "something is there twice"
        said = [one for speaker in speakers for one in speaker.said[channel]]
        assert sorted(said) == events, "every word is where its answer said, and nothing else is"
    wanted = {channel: [text for _, text in events] for channel, events in stored.items()}
    until(20, "everything is heard", lambda: all(len(one.client.texts(channel)) >= len(wanted[channel]) for one in listeners for channel in channels))
    for listener in listeners:
        listener.is_over = True
        listener.join(20)
    assert not [thread.fault for thread in threads if thread.fault]
    for listener in listeners:
        assert not listener.client.gaps
        for channel in channels:
            assert listener.client.texts(channel) == wanted[channel], "once and in order"
    print(f"{words()} words in {len(channels)} channels, {sum(speaker.refused for speaker in speakers)} times refused and said again")


def test_a_webapp_waits_for_its_server_and_two_do_not_share_a_database(cell):
    web, flags = cell.web, cell.nodes["web"].flags
    second = cell.node("web2", "webapp", "--id", "10005", *flags[flags.index("--database") : flags.index("--database") + 2])
    second.spawn()
    assert second.ended(20) == 1
    assert "in use by another campanile" in second.words(), second.words()
    web.term()
    assert web.ended(20) == 0
    pg_ctl("-m", "fast", "stop")
    try:
        web.spawn(web.http_at)
        until(10, "it says that it waits", lambda: "cannot be reached" in web.words())
        time.sleep(1)
        assert web.words().count("cannot be reached") == 1, "said once"
    finally:
        pg_ctl("start")
    web.is_up()
    cell.settle()
