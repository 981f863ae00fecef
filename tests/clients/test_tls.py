"""Links of a cell through TLS: who is refused and what is said of it, certificates that change under load, and strangers who say nothing."""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

import pytest

from cluster import Cell, Node, Office
from harness import BINARY, until
from test_cluster import Talk, heard, meanwhile, together


@pytest.fixture(scope="module")
def cell():
    with Cell("cs1", "cs2", tls=True) as cell:
        yield cell


@pytest.fixture
def stranger(cell):
    """A gateway that is not up yet, with papers or without."""
    node = Node(cell, "stranger", "gateway", "--id", "10002", "--webapp", cell.webapp_at)
    yield node
    node.down()


def papers_of(office, directory, *words):
    return office.papers(directory, "stranger", *words)


def refused(cell, stranger, ours, theirs, why):
    """It comes up, and the webapp and it say why they do not speak to each other."""
    before = cell.web.metric("campanile_links_refused_total", why=why)
    stranger.up()
    until(10, f"it says {ours!r}", lambda: ours in stranger.words())
    until(10, f"the webapp says {theirs!r}", lambda: theirs in cell.web.words())
    until(10, "it is counted", lambda: cell.web.metric("campanile_links_refused_total", why=why) > before)


def test_who_speaks_plain_to_a_cell_of_tls_is_refused_and_both_say_so(cell, stranger):
    refused(cell, stranger, "it speaks TLS, and this node has no certificate", "it speaks without TLS, and this node does not", "plain")


def test_who_speaks_tls_to_a_plain_cell_is_refused_and_both_say_so():
    with Cell("cs1") as cell:
        stranger = Node(cell, "stranger", "gateway", "--id", "10002", "--webapp", cell.webapp_at)
        stranger.papers = papers_of(Office(cell.directory / "office"), cell.directory / "stranger", "gateway", 10_002)
        try:
            refused(cell, stranger, "does it speak TLS, and know our authority?", "it speaks TLS, and this node has no certificate", "tls")
        finally:
            stranger.down()


def test_another_authority_vouches_for_nobody(cell, stranger):
    stranger.papers = papers_of(Office(cell.directory / "elsewhere"), cell.directory / "stranger", "gateway", 10_002)
    refused(cell, stranger, "no authority in --tls-ca vouches", "it refuses this node (TLS alert UnknownCA)", "handshake")


def ends(node, *said):
    node.spawn()
    code = node.ended(20)
    assert code in (1, 2) and all(word in node.words() for word in said), f"{code}: {node.words()}"


def test_a_node_whose_certificate_says_something_else_ends_with_a_sentence(cell, stranger):
    directory = cell.directory / "stranger"
    papers = papers_of(cell.office, directory, "presence", 10_002)
    stranger.papers = papers
    ends(stranger, "--tls-cert", "does not give this node the role gateway")
    stranger.papers = papers_of(cell.office, directory, "gateway", 10_003)
    ends(stranger, "--tls-cert", "does not say number/10002")
    stranger.papers = cell.office.papers(directory, "other", "gateway", 10_002)
    ends(stranger, "--tls-cert", 'the certificate is of node "other", and this one is "stranger"')
    stranger.papers = papers_of(cell.office, directory, "gateway", 10_002)
    (directory / "ca").write_text(Office(cell.directory / "third").root)
    ends(stranger, "--tls-cert", "no authority in --tls-ca")
    for kind in ("cert", "key", "ca"):
        stranger.papers = papers_of(cell.office, directory, "gateway", 10_002)
        (directory / kind).write_text("nonsense")
        ends(stranger, f"--tls-{kind}")
        (directory / kind).unlink()
        ends(stranger, f"--tls-{kind}", "No such file")
    stranger.papers = papers[:2]
    ends(stranger, "--tls-key", "required")


OPENSSL = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=authority" -keyout ca.key -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=stranger" -keyout stranger.key -out stranger.csr
printf '%s\\n' 'extendedKeyUsage=serverAuth,clientAuth' 'subjectAltName=URI:campanile://story/stranger/gateway,URI:campanile://story/stranger/number/10002' > stranger.ext
openssl x509 -req -in stranger.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile stranger.ext -out stranger.crt
"""


def test_an_authority_made_by_openssl_serves_as_well(cell, stranger):
    at = cell.directory / "openssl"
    at.mkdir()
    subprocess.run(["bash", "-ec", OPENSSL], cwd=at, check=True, capture_output=True, timeout=60)
    stranger.papers = [word for kind, name in (("cert", "stranger.crt"), ("key", "stranger.key"), ("ca", "ca.crt")) for word in (f"--tls-{kind}", str(at / name))]
    # Both authorities are believed by both sides: the cell's nodes hear of it when their files change.
    (at / "ca.crt").write_text(both := (at / "ca.crt").read_text() + cell.office.root)
    for node in cell.nodes.values():
        (cell.directory / node.name / "ca").write_text(both)
    stranger.up()
    stays_linked(cell, stranger)


def links(cell, node):
    """Connections of this node to the ports of the channel servers, by their own ports."""
    ports = {int(cell.nodes[name].link.split(":")[1]) for name in ("cs1", "cs2")}
    mine = set()
    for one in pathlib.Path(f"/proc/{node.pid}/fd").iterdir():
        # One of them may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            mine.add(os.readlink(one).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in pathlib.Path(f"/proc/{node.pid}/net/tcp").read_text().splitlines()[1:]]
    ends = [[int(address.split(":")[1], 16) for address in row[1:3]] for row in rows if row[9] in mine and row[3] == "01"]
    return {ours for ours, theirs in ends if theirs in ports}


def stays_linked(cell, node):
    """Who is refused is hung up on at once."""

    def same():
        before = links(cell, node)
        time.sleep(2)
        return before & links(cell, node)

    until(20, "its links stay", same)


def test_certificates_and_authority_change_under_load_and_nothing_is_lost():
    with Cell("cs1", "cs2", "cs3", managers=1, window=1, tls=True) as cell:
        channels = [cell.web.new_channel(f"rotated-{n}", "alice", "bob") for n in range(8)]
        alice, bob = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        quiet = {name: node.words() for name, node in cell.nodes.items()}
        left = {name: node.metric("campanile_tls_certificate_seconds_left") for name, node in cell.nodes.items()}
        assert all(364 * 86_400 < seconds <= 365 * 86_400 for seconds in left.values())
        next_office = Office(cell.directory / "next")

        def change(name, kind, text):
            (cell.directory / name / kind).write_text(text)

        def everywhere(work):
            for node in cell.nodes.values():
                work(node)
                node.process.send_signal(signal.SIGHUP)
            meanwhile((alice, bob), lambda: time.sleep(3))

        def renew(node):
            number = node.flags[node.flags.index("--id") + 1] if "--id" in node.flags else None
            for kind, text in zip(("cert", "key"), next_office.made(node.name, node.roles, number, days=30)):
                change(node.name, kind, text)

        # As an operator does it: both authorities, then the new certificates, then the new authority alone.
        everywhere(lambda node: change(node.name, "ca", cell.office.root + next_office.root))
        everywhere(renew)
        everywhere(lambda node: change(node.name, "ca", next_office.root))
        for name, node in cell.nodes.items():
            assert node.metric("campanile_tls_certificate_seconds_left") < 31 * 86_400, name
            assert "ended" not in node.words()[len(quiet[name]) :], f"a link of {name} broke: {node.words()}"
        # What cannot be used is said, and changes nothing.
        change("cs1", "key", "nonsense")
        cell.nodes["cs1"].process.send_signal(signal.SIGHUP)
        meanwhile((alice, bob), lambda: until(10, "it says so", lambda: "the ones before are kept" in cell.nodes["cs1"].words()))
        # New links are made with the new papers: of one that dies, and to the one with the bad file.
        before = len(talk.said[channels[0]])
        cell.nodes["cs2"].kill()
        meanwhile((alice, bob), cell.nodes["cs2"].up)
        until(20, "words go on", lambda: alice.pong() and bob.pong() and len(talk.said[channels[0]]) > before + 20)
        talk.end()
        heard((alice, bob), talk)


def test_strangers_who_say_nothing_are_bounded_and_do_not_keep_nodes_out(cell):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    host, port = cell.web.link.split(":")
    silent = []
    try:
        began, before = time.monotonic(), cell.web.metric("campanile_links_refused_total", why="full")
        # All at once: the kernel keeps a thousand that were not accepted yet.
        for _ in range(3_000):
            silent.append(one := socket.socket())
            one.setblocking(False)
            one.connect_ex((host, int(port)))
        until(5, "some are too many", lambda: cell.web.metric("campanile_links_refused_total", why="full") > before)
        # What was there goes on meanwhile.
        cell.web.say("alice", cell.web.channel("general"), "are you there?")
        until(5, "the outbox is empty", lambda: cell.web.metric("campanile_outbox_in_flight") == 0)
        until(10, "they are hung up on", lambda: cell.web.descriptors() < 400)
        assert time.monotonic() - began < 15
    finally:
        for one in silent:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # And whoever is somebody comes in again.
    cell.gateway.kill()
    cell.gateway.up()
    stays_linked(cell, cell.gateway)


def test_ctl_makes_papers_once_and_refuses_what_makes_no_sense(tmp_path):
    def ctl(*words):
        return subprocess.run([BINARY, "ctl", "--cell", "story", "cert", *words], capture_output=True, text=True, timeout=20)

    at = str(tmp_path / "office")
    said = ctl("node", at, "--name", "cs1", "--roles", "channel")
    assert said.returncode == 1 and "makes an authority" in said.stderr
    assert ctl("ca", at).returncode == 0
    said = ctl("node", at, "--name", "cs1", "--roles", "channel,presence", "--days", "30")
    assert said.returncode == 0 and "campanile://story/cs1/presence" in said.stdout
    for file in ("ca.key", "cs1.key"):
        assert os.stat(f"{at}/{file}").st_mode & 0o777 == 0o600
    shown = subprocess.run(["openssl", "verify", "-purpose", "sslserver", "-CAfile", f"{at}/ca.crt", f"{at}/cs1.crt"], capture_output=True, text=True, timeout=20)
    assert shown.returncode == 0, shown.stderr
    for again in (("ca", at), ("node", at, "--name", "cs1", "--roles", "channel")):
        said = ctl(*again)
        assert said.returncode == 1 and "there already" in said.stderr
    for words in (("--name", "a/b", "--roles", "ring"), ("--name", "x", "--roles", "king"), ("--name", "x", "--roles", "gateway", "--id", "7"), ("--name", "x", "--roles", "ring", "--days", "0")):
        assert ctl("node", at, *words).returncode == 2, words
