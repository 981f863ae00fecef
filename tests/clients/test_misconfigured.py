"""What operators get wrong: a name or a number that two processes have."""

from cluster import Cell, Node
from harness import until
from rtm import Client, comes_in
from test_cluster import Talk, heard, meanwhile, together


def take_turns(clients, runs, waits, times, why):
    """Of two the one that waits is started, as by its supervisor, and the other ends and says why; so often. The one that runs then."""
    for _ in range(times):
        meanwhile(clients, waits.up)
        assert meanwhile(clients, lambda: runs.ended(10)) == 1
        assert why in runs.words(), runs.words()
        runs, waits = waits, runs
    return runs


def test_two_processes_by_one_name_take_turns_and_nobody_misses_a_message():
    with Cell("cs1", "cs2", managers=3, window=1) as cell:
        channels = [cell.web.new_channel(f"twins-{n}", "alice", "bob") for n in range(8)]
        clients = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        first = cell.nodes["cs2"]
        twin = Node(cell, "cs2", first.roles, *first.flags)
        try:
            take_turns(clients, first, twin, 4, "another process runs as cs2 now")
            assert cell.seated() == ["cs1", "cs2"]
            talk.end()
            heard(clients, talk)
        finally:
            twin.down()


def test_of_two_gateways_with_one_number_the_earlier_ends_and_says_why():
    with Cell("cs1", "cs2", managers=3, gateways=2) as cell:
        channels = [cell.web.new_channel(f"numbers-{n}", "alice", "bob") for n in range(4)]
        # At the first gateway.
        clients = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        first = cell.gateways[1]
        twin = Node(cell, "gw9", first.roles, *first.flags)
        try:
            runs = take_turns(clients, first, twin, 2, "two processes run as node 10002, and one ends")
            # Whoever met both often enough is the first to tell one of them.
            told = sum(node.metric("campanile_links_refused_total", why="twin") for node in cell.nodes.values())
            assert told > 0
            # The one that is left serves clients.
            third = Client(cell.web, "alice")
            until(10, "it lets clients in", lambda: comes_in(third, at=runs.ws))
            until(10, "it tells what is said", lambda: third.pong() and any(third.texts(channel) for channel in channels))
            talk.end()
            heard(clients, talk)
        finally:
            twin.down()
