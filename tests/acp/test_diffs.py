"""Unified diffs that patch(1) accepts, whatever the size."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentctl.acp.diffs import file_ref, unified_diff

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "x\x0cy\n"]), max_size=14)
TEXTS = st.builds(lambda lines, last: "".join(lines) + last, LINES, st.sampled_from(["", "end"]))


def apply(diff, old):
    """A small patch: replays the hunks by their line numbers."""
    source, result, at = old.split("\n"), [], 0
    lines = diff.split("\n")[2:-1]
    for index, line in enumerate(lines):
        ends_here = lines[index + 1 : index + 2] == ["\\ No newline at end of file"]
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            begin = int(start) - (0 if count == "0" else 1)
            result += [text + "\n" for text in source[at:begin]]
            at = begin
        elif line.startswith(" "):
            assert source[at] == line[1:]
            result.append(line[1:] + ("" if ends_here else "\n"))
            at += 1
        elif line.startswith("-"):
            assert source[at] == line[1:]
            at += 1
        elif line.startswith("+"):
            result.append(line[1:] + ("" if ends_here else "\n"))
    return "".join(result) + "\n".join(source[at:])


@given(TEXTS, TEXTS)
def test_a_diff_turns_the_old_text_into_the_new_one(old, new):
    diff, cut = unified_diff("/f", old, new)
    assert not cut
    assert apply(diff, old) == new if diff else old == new


def test_line_numbers_count_from_the_beginning_of_the_file():
    old = "".join(f"line {n}\n" for n in range(1, 101))
    diff, _ = unified_diff("/f", old, old.replace("line 50\n", "line fifty\n"))
    assert diff.splitlines()[:3] == ["--- /f", "+++ /f", "@@ -47,7 +47,7 @@"]


def test_a_new_file_comes_from_nowhere():
    part = file_ref("/new", None, "one\ntwo\n")
    assert part["action"] == "write"
    assert part["diff"] == "--- /dev/null\n+++ /new\n@@ -0,0 +1,2 @@\n+one\n+two\n"


def test_a_small_change_in_a_huge_file_is_a_small_diff():
    old = "".join(f"{n}\n" for n in range(200_000))
    start = time.process_time()
    diff, cut = unified_diff("/f", old, old.replace("\n100000\n", "\nchanged\n"))
    assert time.process_time() - start < 2
    assert not cut
    assert len(diff.splitlines()) == 11


@pytest.mark.parametrize("lines", [3000, 400_000])
def test_a_diff_too_big_to_compare_is_bounded_and_says_so(lines):
    old, new = "x\ny\n" * lines, "y\nz\n" * lines
    start = time.process_time()
    part = file_ref("/f", old, new[:-2])
    assert time.process_time() - start < 2
    assert len(part["diff"]) <= 256 * 1024
    assert part["truncated"]


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not installed")
@settings(max_examples=20, deadline=None)
@given(TEXTS.filter(lambda text: "\x0c" not in text), TEXTS.filter(lambda text: "\x0c" not in text))
def test_patch_accepts_it(tmp_path_factory, old, new):
    place = tmp_path_factory.mktemp("patch")
    (place / "f").write_text(old)
    diff, _ = unified_diff("f", old, new)
    if diff and new:  # patch removes a file that becomes empty
        subprocess.run(["patch", "-s", "f"], input=diff, text=True, cwd=place, check=True, timeout=10)
        assert (place / "f").read_text() == new
