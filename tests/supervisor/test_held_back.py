"""A secret in pieces never shows, and nothing else is changed, lost or reordered."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("kind", ["turn.started", "turn.ended", "sandbox.agent_exited", "sandbox.hibernated"])
def test_what_waits_goes_out_before_a_turn_or_an_agent_begins_or_ends(kind: str) -> None:
    held = HeldBack([SECRET])
    waits, boundary = delta("ends in s"), Draft(kind, {}, "daemon")
    assert held.passed([waits]) == []
    assert held.passed([boundary]) == [waits, boundary]
    assert held.passed([]) == []


def test_a_request_does_not_wait_for_a_text() -> None:
    held = HeldBack([SECRET])
    asked = Draft("permission.requested", {"permission_id": "req_1"}, "daemon")
    assert held.passed([delta("ends in sk-"), asked]) == [asked]
    assert text_of(list(held.passed([delta(SECRET[3:] + "."), completed()]))) == "ends in [redacted]."


def test_the_frame_of_an_item_s_first_piece_waits_with_it() -> None:
    held = HeldBack([SECRET])
    started = Draft("item.started", {"item": {"item_id": "itm_1"}}, raw=b"the frame with sk-ss-ant-")
    first = Draft("item.delta", {"item_id": "itm_1", "delta": SECRET[:-1]})
    out = list(held.passed([started, first]))
    assert out == [started._replace(raw=None)]
    out += held.passed([delta(SECRET[-1:]), completed()])
    assert text_of(out) == "[redacted]"
    assert not any(d.raw for d in out)


def test_an_innocent_first_piece_keeps_its_frame() -> None:
    held = HeldBack([SECRET])
    started = Draft("item.started", {"item": {"item_id": "itm_1"}}, raw=b"frame")
    first = Draft("item.delta", {"item_id": "itm_1", "delta": "sk"})
    out = [*held.passed([started, first]), *held.passed([delta("y is blue"), completed()])]
    assert [d.raw for d in out] == [None, b"frame", b"y is blue", None]


def test_a_secret_that_begins_as_it_ends_is_not_cut_in_two() -> None:
    held = HeldBack(["abcdefgha"])
    out = [*held.passed([delta("see abcdefgha")]), *held.passed([delta("bcdefgha and more"), completed()])]
    written = "".join(d.data["delta"].replace("abcdefgha", "[redacted]") for d in out[:-1])  # each as the log does it
    assert "abcdefgha" not in written


def test_a_long_secret_may_come_in_many_pieces() -> None:
    key = "Ab3/" * 500
    held = HeldBack([key])
    out = [d for at in range(0, len(key), 3) for d in held.passed([delta(key[at : at + 3])])]
    out += held.passed([completed()])
    assert text_of(out) == "[redacted]"


def test_nothing_is_left_of_a_key_of_several_lines() -> None:
    key = "-----BEGIN KEY-----\n" + "\n".join(f"{n}line-of-a-private-key" for n in range(40)) + "\n-----END KEY-----"
    held = HeldBack([key])
    out = [d for at in range(0, len(key), 7) for d in held.passed([delta(key[at : at + 7])])]
    out += held.passed([completed()])
    assert set(text_of(out).splitlines()) == {"[redacted]"}


def test_many_pieces_that_only_began_like_a_secret_go_out_as_they_came() -> None:
    held = HeldBack([SECRET])
    pieces = [delta(piece) for piece in ("s", "k", "-", "s", "s")]
    assert [d for piece in pieces for d in held.passed([piece])] == []
    other = delta(" not")
    assert held.passed([other]) == [*pieces, other]


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
