"""`campanile load` against Campanile: every scenario in the Centrifuge dialect, and three in RTM. Judged: what is wrong, never how fast."""

import json
import signal
import subprocess

import pytest

from harness import BINARY, Server, until
from test_centrifuge import jwt

LIMITS = ("boots_burst=100000", "boots_per_second=100000", "posts_burst=100000", "posts_per_1000_seconds=100000000")


def load(server, *words, seconds=1):
    """The figures of a run in which nothing went wrong; a busy machine may make the generator late."""
    command = [BINARY, "load", *words, "--workspace", server.http, "--seconds", str(seconds), "--json", "/dev/stdout"]
    command += ["--server-pid", str(server.pid)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode in (0, 3), run.stdout + run.stderr
    figures = json.loads(run.stdout[run.stdout.index("\n{"):])
    wrong = {name: figures[name] for name in ("missing", "duplicates", "out_of_order", "ended", "unrecovered", "faults")}
    assert not any(wrong.values()), (wrong, figures["first_faults"])
    return figures


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    tokens = tmp_path_factory.mktemp("load") / "tokens.json"
    flags = [word for limit in LIMITS for word in ("--limit", limit)]
    with Server("--ephemeral", *flags, "--users", "60", "--channels", "10", "--members", "20", "--tokens", str(tokens)) as server:
        server.tokens_file = str(tokens)
        yield server


@pytest.mark.parametrize("words", ["fanout", "fanout --outstanding 8", "burst --burst 80", "slow --slow 0.1"])
def test_everything_arrives_at_everybody(crowded, words):
    figures = load(crowded, *words.split(), "-n", "100", "--warm", "0")
    followers = 90 if words.startswith("slow") else 100
    assert figures["deliveries"] == figures["published"] * followers > 0
    assert figures["server"]["cpu_us_per_delivery"] > 0 and figures["latency_us"]["p50"] > 0


def test_everything_arrives_in_many_channels_whatever_the_layout(crowded):
    for layout in "random", "blocks", "round-robin":
        words = ["channels", "-n", "100", "--channels", "50", "--subscribers", "10", "--rate", "500", "--threads", "2"]
        figures = load(crowded, *words, "--layout", layout)
        assert figures["deliveries"] == figures["published"] * 10 == 5_000


def test_who_comes_back_is_given_what_it_missed(crowded):
    figures = load(crowded, "resume", "-n", "100", "--rate", "200", seconds=2)
    assert figures["deliveries"] == 400 * 100 and figures["connect_us"]["max"] > 0


@pytest.mark.parametrize("words", ["connect", "idle", "capacity --channels 2000"])
def test_connections_and_channels_are_held(crowded, words):
    figures = load(crowded, *words.split(), "-n", "200")
    assert figures["connects_per_second"] > 0
    assert figures["channels"] == (2_000 if "capacity" in words else 0)


def test_a_workspace_has_a_day(crowded):
    figures = load(crowded, "mixed", "-n", "50", "--channels", "100", "--rate", "100")
    assert figures["deliveries"] > 0


@pytest.mark.parametrize("scenario", ["channels", "burst", "mixed"])
def test_rtm_clients_are_loaded_too(crowded, scenario):
    figures = load(crowded, scenario, "--dialect", "rtm", "--tokens", crowded.tokens_file, "--rate", "100", "--burst", "20")
    assert figures["connections"] == 60
    assert figures["deliveries"] == figures["published"] * 20 > 0


@pytest.mark.parametrize("dialect", ["rtm", "centrifuge"])
def test_clients_come_again_when_the_server_is_restarted_and_miss_nothing(tmp_path, dialect):
    flags = [word for limit in (*LIMITS, "connections_per_user_max=100") for word in ("--limit", limit)]
    with Server(*flags) as server:
        channels = [server.new_channel(f"load-{nth}", "bob") for nth in range(3)]
        is_rtm = dialect == "rtm"
        token = server.token("bob") if is_rtm else jwt(server.workspace["centrifuge"]["token_secret"], sub=server.id("bob"))
        named = channels if is_rtm else [f"workspace:{channel}" for channel in channels]
        users = [{"token": token, "channels": [0, 1, 2]}] * 20
        (tokens := tmp_path / "tokens").write_text(json.dumps({"publisher": token, "channels": named, "users": users}))
        words = ["channels", "--dialect", dialect, "--tokens", str(tokens), "--workspace", server.http, "--rate", "20", "--seconds", "1000"]
        words += ["--reconnect", "--json", str(tmp_path / "json")]
        with open(tmp_path / "words", "wb") as said:
            run = subprocess.Popen([BINARY, "load", *words], stdout=said, stderr=subprocess.STDOUT)
        try:
            until(20, "everybody is in", lambda: "everybody is in" in (tmp_path / "words").read_text())
            for end in (server.kill, server.term):
                tips = [server.tip("bob", channel) for channel in channels]
                until(10, "something is said", lambda: sum(server.tip("bob", channel) for channel in channels) > sum(tips) + 10)
                end()
                server.process.wait(20)
                server.up()
                until(20, "all are back", lambda: server.metric("campanile_connections") >= 21)
            run.send_signal(signal.SIGINT)
            code = run.wait(40)
        finally:
            run.kill()
            run.wait(10)
    figures, words = json.loads((tmp_path / "json").read_text()), (tmp_path / "words").read_text()
    wrong = {name: figures[name] for name in ("missing", "duplicates", "out_of_order", "ended", "unrecovered")}
    assert not any(wrong.values()) and code in (0, 3), words
    assert (figures["lost"], figures["publisher_lost"]) == (40, 2) and figures["back_us"]["max"] > 0, words
    assert figures["deliveries"] >= (figures["published"] - figures["refused"] - figures["unanswered"]) * 20 > 0, words


def test_a_crowd_does_not_come_into_a_workspace_that_there_is(tmp_path):
    data, tokens = tmp_path / "data", tmp_path / "tokens"
    with Server(data=data) as server:
        server.kill()
        words = ["dev", "--data", str(data), "--users", "5", "--tokens", str(tokens), "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"]
        run = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=20)
    assert run.returncode == 1 and "--users" in run.stderr and not tokens.exists()
