"""The alarm rings: logs with one fault each, and what the checker of the cases says of them."""

import pytest

from cases import checker, loads, report

# One durable channel, one in memory; two things said in each.
SAID = [["C1", "C1 0", None, 3, 0.0, 0.1], ["C1", "C1 1", None, 4, 1.0, 1.1], ["news:0", "news:0 0", "e", 1, 0.0, 0.1], ["news:0", "news:0 1", "e", 2, 1.0, 1.1]]
STORED = {"C1": {3: "C1 0", 4: "C1 1"}}
HEARD = [[0.2, "heard", "C1", None, 3, "C1 0"], [1.2, "heard", "C1", None, 4, "C1 1"], [0.2, "heard", "news:0", "e", 1, "news:0 0"], [1.2, "heard", "news:0", "e", 2, "news:0 1"]]


def judged(log=HEARD, said=SAID, unsaid=(), stored=STORED):
    verdict = checker.judge(said, unsaid, {"bob": log}, {"bob": ["C1", "news:0"]}, stored)
    return {what: count for what, count in verdict.counts.items() if count and what not in ("deliveries", "told")}


def test_nothing_is_wrong_where_all_is_well():
    assert judged() == {}


@pytest.mark.parametrize("at", range(4))
def test_what_one_did_not_hear_is_missing(at):
    assert judged(HEARD[:at] + HEARD[at + 1 :]) == {"missing": 1}


@pytest.mark.parametrize("at", range(4))
def test_what_comes_twice_is_doubled(at):
    assert judged([*HEARD, HEARD[at]]) == {"duplicates": 1}


def test_what_comes_too_late_is_out_of_order():
    assert judged([HEARD[1], HEARD[0], *HEARD[2:]]) == {"out_of_order": 1}
    assert judged([*HEARD[:2], HEARD[3], HEARD[2]]) == {"out_of_order": 1}


def test_what_nobody_said_or_another_said_is_noticed():
    assert judged([*HEARD, [2.0, "heard", "C1", None, 5, "C1 9"]]) == {"unasked": 1}
    assert judged([HEARD[0], [1.2, "heard", "C1", None, 4, "C1 0"], *HEARD[2:]]) == {"unasked": 1}


def test_the_database_has_what_was_acknowledged_once_and_the_rest_at_most_once():
    assert judged(HEARD[:1] + HEARD[2:], stored={"C1": {3: "C1 0"}}) == {"missing": 1}
    again = [1.3, "heard", "C1", None, 5, "C1 1"]
    assert judged([*HEARD, again], stored={"C1": {**STORED["C1"], 5: "C1 1"}}) == {"duplicates": 1}
    # Without an acknowledgement it may be there or not; if it is, it is owed to everybody.
    unsaid, stored = [["C1", "C1 2", "no answer", 2.0]], {"C1": {**STORED["C1"], 5: "C1 2"}}
    assert judged(unsaid=unsaid) == {}
    assert judged(unsaid=unsaid, stored=stored) == {"missing": 1}
    assert judged([*HEARD, [2.3, "heard", "C1", None, 5, "C1 2"]], unsaid=unsaid, stored=stored) == {}


def test_what_was_lost_in_memory_must_be_told():
    lost = HEARD[:3]
    assert judged([*lost, [2.0, "told", "news:0", "e", 1, "f", 0]]) == {"lost_and_told": 1}
    # Told of something else: of an earlier place, or of another epoch.
    assert judged([*lost, [2.0, "told", "news:0", "e", 2, "f", 0]]) == {"missing": 1}
    assert judged([*lost, [2.0, "told", "news:0", "d", 1, "f", 0]]) == {"missing": 1}
    # What came into a new epoch before one was back in it.
    assert judged([*lost, [2.0, "told", "news:0", "d", 1, "e", 2]]) == {"lost_and_told": 1}
    # Durable channels have no such excuse.
    assert judged([HEARD[0], *HEARD[2:], [2.0, "told", "C1", None, 3, None, 4]]) == {"missing": 1, "durable_gaps_told": 1}


def test_a_gap_is_the_longest_wait_for_what_is_owed_and_the_longest_silence():
    gap = {"late": 0.1, "silent": 1.0}
    assert checker.gaps(SAID, {"bob": HEARD}, STORED, 0.5, 2.0) == {"durable": {"C1": gap}, "memory": {"news:0": gap}}


# What a load says of a run in which all is well, and the rest of a case's report.
LOAD = dict.fromkeys((*loads.NEVER, "refused", "unanswered", "lost", "publisher_lost"), 0) | {"dialect": "rtm", "published": 9, "deliveries": 180}
CASE = dict.fromkeys((*report.NEVER, "disconnected", "unacknowledged", "told"), 0) | {"may_disconnect": False, "is_without_effect": False, "reach": []}


def found(load, **case):
    return report.faults(CASE | case | {"load": [LOAD, LOAD | {"dialect": "centrifuge"} | load]}, False)


@pytest.mark.parametrize("what", loads.NEVER)
def test_what_a_load_did_not_get_once_and_in_order_fails_the_case(what):
    assert found({}) == []
    assert found({what: 1}, may_disconnect=True) == [f"load centrifuge: 1 {what.replace('_', ' ')}"]


def test_a_load_loses_connections_only_where_clients_may_and_publications_only_by_a_refusal():
    assert found({"lost": 1}) == ["load centrifuge: 1 disconnected"]
    assert found({"lost": 1, "publisher_lost": 1, "refused": 1, "unanswered": 1}, may_disconnect=True) == []
    assert found({"refused": 1, "unanswered": 2}, is_without_effect=True, may_disconnect=True) == ["load centrifuge: 1 refused"]
    assert found({"refused": 1, "unanswered": 2}, is_without_effect=True) == ["load centrifuge: 1 refused", "load centrifuge: 2 unanswered"]


def test_a_load_that_says_nothing_fails_the_case():
    assert found({"published": 0, "deliveries": 0}) == ["load centrifuge: nothing was said or heard"]
    assert found({"failed": "ended with 1"}) == ["load centrifuge: ended with 1"]
