"""A frozen class is what a frozen dataclass is to those who use it."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from agentctl.frozen import frozen


@frozen
class Point:
    """Somewhere."""

    x: int
    y: int = 0
    seen: list[str] = dataclasses.field(default_factory=list)
    key: str = dataclasses.field(default="secret", repr=False)

    @property
    def sum(self) -> int:
        return self.x + self.y


@frozen
class Other:
    x: int
    y: int = 0


def test_fields_have_their_values_or_their_defaults():
    point = Point(x=1)
    assert (point.x, point.y, point.seen, point.key, point.sum) == (1, 0, [], "secret", 1)
    assert Point(x=1).seen is not point.seen


@pytest.mark.parametrize(
    ("given", "said"), [({}, "'x' is missing"), ({"x": 1, "z": 2}, "there is no 'z'"), ({"z": 2}, "'x' is missing, th")]
)
def test_a_field_that_is_missing_or_that_there_is_not_is_told(given: dict[str, Any], said: str):
    with pytest.raises(TypeError, match=said):
        Point(**given)


def test_nothing_can_be_changed():
    point: Any = Point(x=1)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"Point\.x"):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.other = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert point.x == 1


def test_those_of_the_same_class_with_the_same_values_are_equal():
    assert Point(x=1, y=2) == Point(y=2, x=1)
    assert Point(x=1) != Point(x=2)
    assert Other(x=1) != Point(x=1)
    assert hash(Other(x=1, y=2)) == hash(Other(y=2, x=1))
    assert {Other(x=1), Other(x=1)} == {Other(x=1, y=0)}


def test_what_is_not_to_be_shown_is_not():
    assert repr(Point(x=1, key="k")) == f"{Point.__qualname__}(x=1, y=0, seen=[])"


def test_the_functions_for_dataclasses_take_them():
    point = Point(x=1, seen=["a"])
    assert [field.name for field in dataclasses.fields(point)] == ["x", "y", "seen", "key"]
    assert dataclasses.asdict(point) == {"x": 1, "y": 0, "seen": ["a"], "key": "secret"}
    assert dataclasses.replace(point, y=5) == Point(x=1, y=5, seen=["a"])


def test_copies_are_equal():
    point = Point(x=1, seen=["a"])
    assert copy.deepcopy(point) == copy.copy(point) == pickle.loads(pickle.dumps(point)) == point
