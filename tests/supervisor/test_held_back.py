"""A secret in pieces never shows, and nothing else is changed, lost or reordered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentctl.events import Draft
from agentctl.supervisor.held_back import HeldBack

SECRET = "sk-ss-ant-0123456789"


def delta(text: str, item: str = "itm_1") -> Draft:
    return Draft("item.delta", {"item_id": item, "delta": text}, raw=text.encode())


def completed(item: str = "itm_1") -> Draft:
    return Draft("item.completed", {"item": {"item_id": item}})


def text_of(drafts: list[Draft], item: str = "itm_1") -> str:
    return "".join(d.data["delta"] for d in drafts if d.type == "item.delta" and d.data["item_id"] == item)


def test_a_secret_split_over_two_deltas_is_cut_out() -> None:
    held = HeldBack([SECRET])
    out = held.passed([delta("the key is sk-ss-a")])
    out += held.passed([delta("nt-0123456789, keep it"), completed()])
    assert text_of(out) == "the key is [redacted], keep it"
    assert not any(d.raw for d in out)


def test_text_that_only_begins_like_a_secret_goes_out_as_it_came() -> None:
    held = HeldBack([SECRET])
    first, second = delta("two file"), delta("s and two cats")
    third = delta(" done")
    assert held.passed([first, second]) == [first]
    assert held.passed([third]) == [second, third]


def test_what_waits_goes_out_when_its_item_completes() -> None:
    held = HeldBack([SECRET])
    waits, end = delta("ends in s"), completed()
    assert held.passed([waits]) == []
    assert held.passed([end]) == [waits, end]


def test_what_follows_does_not_overtake() -> None:
    held = HeldBack([SECRET])
    waits, other = delta("ends in sk-"), Draft("usage.updated", {"used": 1})
    assert held.passed([waits, other]) == []
    assert held.passed([delta("-"), completed()]) == [waits, other, delta("-"), completed()]


def test_without_secrets_nothing_waits() -> None:
    drafts = [delta("s"), delta("k")]
    assert HeldBack(["short"]).passed(drafts) == drafts


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([SECRET, "s", "sk-", "sk-ss-ant-", "x", "0123456789", " ", "sk-ss-ant-012345678"])),
    st.data(),
)
def test_however_it_is_cut_no_secret_is_left_and_all_else_is(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    held = HeldBack([SECRET])
    out = [d for piece in pieces for d in held.passed([delta(piece)])] + held.passed([completed()])
    written = "".join(d.data["delta"].replace(SECRET, "[redacted]") for d in out if d.type == "item.delta")
    assert written == text.replace(SECRET, "[redacted]")
    assert out[-1] == completed()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["s", "k-ss", "sk-ss-", "ant-0123456789", "."]))))
def test_two_items_at_once_keep_their_order_and_their_text(pieces: list[tuple[str, str]]) -> None:
    held = HeldBack([SECRET])
    out = [d for item, text in pieces for d in held.passed([delta(text, item)])]
    out += held.passed([completed("a"), completed("b")])
    for item in "ab":
        said = "".join(text for i, text in pieces if i == item)
        assert text_of(out, item) == said.replace(SECRET, "[redacted]")
