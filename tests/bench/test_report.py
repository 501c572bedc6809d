"""The judgement of the benchmark; what it measures judges nothing in CI."""

import pytest

from tests.bench.report import compared


@pytest.fixture
def row():
    """Makes one of runs that took 2 and a peer's that took 4."""
    return lambda **goals: compared("a row", [2.0, 2.0, 2.0], [4.0, 4.0, 5.0], peer_name="peer", **goals)


@pytest.mark.parametrize(
    ("goals", "met"),
    [
        ({}, None),
        ({"goal": 2.0}, True),
        ({"goal": 1.9}, False),
        ({"times_peer": 0.5}, True),
        ({"times_peer": 0.4}, False),
        ({"goal": 1.9, "times_peer": 0.5}, False),
        ({"goal": 2.0, "times_peer": 0.5}, True),
    ],
)
def test_a_row_meets_its_goals_only_all_together(row, goals, met):
    assert row(**goals).met is met


def test_a_goal_that_speaks_of_a_peer_is_not_judged_without_the_peer():
    alone = compared("a row", [2.0], None, peer_name="peer", times_peer=0.5)
    assert (alone.met, alone.peer_name, alone.ratio) == (None, None, None)


def test_there_is_no_ratio_to_a_peer_that_took_nothing():
    lost = compared("events lost", [0.0], [0.0], unit="events", peer_name="peer", goal=0)
    assert (lost.ratio, lost.met) == (None, True)


def test_a_row_tells_its_goals_with_their_units_in_the_table_and_in_json(row):
    told = row(goal=50.0, times_peer=0.5)
    assert "<= 50 ms, <= 0.5 x" in told.cells()
    assert told.to_json()["goals"] == [{"at_most": 50.0, "of": "ms"}, {"at_most": 0.5, "of": "x"}]
