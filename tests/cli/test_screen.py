"""The tail is redrawn in place: what is printed stays, what is gone is gone, and little is written."""

import pyte
import pytest

from agentctl.cli.screen import Screen


class Emulator:
    def __init__(self, columns=20, rows=6):
        self.size = (columns, rows)
        self.terminal = pyte.HistoryScreen(columns, rows, history=1000, ratio=1)
        self.terminal.set_mode(pyte.modes.LNM)  # as a terminal's line discipline does: \n is \r\n
        self.stream = pyte.Stream(self.terminal)
        self.written = []
        self.screen = Screen(self.write, lambda: self.size, len)

    def write(self, text):
        self.written.append(text)
        self.stream.feed(text)

    @property
    def lines(self):
        above = ["".join(line[x].data for x in range(self.size[0])).rstrip() for line in self.terminal.history.top]
        lines = above + [line.rstrip() for line in self.terminal.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines


@pytest.fixture
def emulator():
    return Emulator()


def test_a_tail_grows_shrinks_and_goes(emulator):
    for tail in (["a"], ["a", "b"], ["a", "B", "c"], ["x"], [], ["y", "z"]):
        emulator.screen.draw(tail)
        assert emulator.lines == tail


def test_printed_text_stays_above_the_tail(emulator):
    emulator.screen.draw(["working"])
    emulator.screen.draw(["working"], "one\ntwo\n")
    emulator.screen.draw([], "three\n")
    emulator.screen.draw(["end"])
    assert emulator.lines == ["one", "two", "three", "end"]


def test_more_text_than_the_screen_is_high_is_kept(emulator):
    emulator.screen.draw(["tail 1", "tail 2"])
    for i in range(30):
        emulator.screen.draw(["tail 1", "tail 2"], f"line {i}\n")
    assert emulator.lines == [f"line {i}" for i in range(30)] + ["tail 1", "tail 2"]


def test_a_tail_higher_than_the_screen_shows_its_end(emulator):
    emulator.screen.draw([str(i) for i in range(20)])
    assert emulator.lines == ["15", "16", "17", "18", "19"]
    emulator.screen.draw([], "done\n")
    assert emulator.lines == ["done"]


def test_an_unchanged_tail_writes_nothing(emulator):
    emulator.screen.draw(["a", "b"])
    emulator.written.clear()
    emulator.screen.draw(["a", "b"])
    assert emulator.written == []


def test_only_changed_lines_are_written_and_nothing_is_blanked_first(emulator):
    emulator.screen.draw(["first", "second", "third"])
    emulator.written.clear()
    emulator.screen.draw(["first", "second", "third!"])
    [written] = emulator.written
    assert "first" not in written
    assert "second" not in written
    assert written.index("third!") < written.index("\x1b[K")


def test_a_narrower_terminal_does_not_leave_rests(emulator):
    emulator.screen.draw(["x" * 18, "status"])
    emulator.size = (10, 6)
    emulator.terminal.resize(6, 10)
    emulator.terminal.reset()
    emulator.terminal.set_mode(pyte.modes.LNM)
    for text in ("x" * 10, "\n" + "x" * 8, "\nstatus"):  # how a terminal reflows the lines
        emulator.stream.feed(text)
    emulator.screen.draw(["short"])
    assert emulator.lines == ["short"]
