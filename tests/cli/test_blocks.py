"""Streamed Markdown is cut where it cannot change any more, and nothing of it gets lost."""

from hypothesis import given
from hypothesis import strategies as st

from agentctl.cli.blocks import Blocks

TEXT = """# Title

A paragraph
of two lines.

- one

  still one
- two

```python
x = 1

# not a heading
```
After the fence.

~~~
open
"""


def _all(blocks):
    return [b.text for b in blocks]


def test_a_document_is_cut_into_its_blocks():
    blocks = Blocks()
    blocks.feed(TEXT)
    assert _all(blocks.take()) == [
        "# Title",
        "A paragraph\nof two lines.",
        "- one\n\n  still one\n- two",
        "```python\nx = 1\n\n# not a heading\n```",
        "After the fence.",
    ]
    assert blocks.tail.text == "~~~\nopen\n"
    assert _all(blocks.finish()) == ["~~~\nopen"]
    assert blocks.tail.text == ""


def test_how_the_text_arrives_changes_nothing():
    whole, piecewise = Blocks(), Blocks()
    whole.feed(TEXT)
    found = []
    for character in TEXT:
        piecewise.feed(character)
        found += piecewise.take()
    assert found + piecewise.finish() == whole.take() + whole.finish()


def test_a_block_is_not_finished_before_the_next_one_begins():
    blocks = Blocks()
    blocks.feed("- one\n\n")
    assert blocks.take() == []
    blocks.feed("  more of one")
    assert blocks.take() == []


def test_a_long_code_block_is_cut_into_code_blocks():
    blocks = Blocks()
    blocks.feed("```py\na\nb\nhal")
    assert _all(blocks.cut()) == ["```py\na\nb\n```"]
    assert blocks.tail.text == "```py\nhal"
    assert blocks.tail.joined
    blocks.feed("f\n```\n\nend")
    assert [(b.text, b.joined) for b in blocks.finish()] == [("```py\nhalf\n```", True), ("end", False)]


def test_a_long_line_is_cut_at_a_word():
    blocks = Blocks()
    blocks.feed("many words without any en")
    assert _all(blocks.cut()) == ["many words without any "]
    assert blocks.tail.text == "en"


@given(st.lists(st.sampled_from(["a", " ", "\n", "```", "~~~", "# ", "- ", "\n\n", "  b", "word "]), max_size=60))
def test_no_character_but_blank_lines_is_lost(pieces):
    blocks = Blocks()
    found = []
    for piece in pieces:
        blocks.feed(piece)
        found += blocks.take()
    found += blocks.finish()
    assert "".join("".join(_all(found)).split()) == "".join("".join(pieces).split())
