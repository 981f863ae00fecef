"""One server for the stories of a file that do not end it, and one of its own for each that does."""

import itertools

import pytest

from harness import Server

counter = itertools.count(1)


@pytest.fixture(scope="module")
def server():
    with Server("--ephemeral") as server:
        yield server


@pytest.fixture
def fresh(request):
    """Starts servers that end with the story: `fresh("--cores", "4")`."""
    servers = []

    def start(*flags, **options):
        server = Server(*flags, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.down()


@pytest.fixture
def channel(server):
    """A channel with alice, bob and carol in it, for one story."""
    return server.new_channel(f"story-{next(counter)}", "alice", "bob", "carol")
