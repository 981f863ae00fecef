"""What operators get wrong: a name or a number that two processes have."""

from cluster import Cell, Node
from harness import until
from rtm import Socket
from test_cluster import Talk, heard, meanwhile, together


def test_two_processes_by_one_name_take_turns_and_nobody_misses_a_message():
    with Cell("cs1", "cs2", managers=3, window=1) as cell:
        channels = [cell.web.new_channel(f"twins-{n}", "alice", "bob") for n in range(8)]
        clients = together(cell, "alice", "bob")
        talk = Talk(cell, channels)
        first = cell.nodes["cs2"]
        twin = Node(cell, "cs2", first.roles, *first.flags)
        runs, waits = first, twin
        try:
            # Each is started again by its supervisor.
            for _ in range(4):
                meanwhile(clients, waits.up)
                assert meanwhile(clients, lambda: runs.ended(10)) == 1
                assert "another process runs as cs2 now" in runs.words(), runs.words()
                runs, waits = waits, runs
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
        runs, waits = first, twin
        try:
            for _ in range(2):
                meanwhile(clients, waits.up)
                assert meanwhile(clients, lambda: runs.ended(10)) == 1
                assert "two processes run as node 10002, and one ends" in runs.words(), runs.words()[-500:]
                runs, waits = waits, runs
            owner = cell.nodes["cs1"]
            until(10, "the owner has told a twin", lambda: owner.metric("campanile_links_refused_total", why="twin") > 0)
            # The one that is left serves clients.
            socket = Socket(cell.web.call("alice", "rtm.connect")["url"].replace(cell.gateway.ws, runs.ws))
            assert socket.message()["type"] == "hello"
            assert socket.message()["type"] == "message"
            talk.end()
            heard(clients, talk)
        finally:
            twin.down()
