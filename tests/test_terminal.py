"""What a person at a terminal sees of work that goes on."""

import io
import logging
import re
import sys

from dln.sweeps.report import Report, sweep_bar
from dln.terminal import live_view


class Paper(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What is left of each line where it has been written over, without colours."""
        lines = (line.rpartition("\x1b[2K")[2] for line in self.getvalue().split("\n"))
        return [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line).strip("\r ") for line in lines]


def at_a_terminal(monkeypatch) -> Paper:
    """Make standard error and output one terminal; in the test itself, as pytest puts its own there before."""
    paper = Paper()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, paper)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return paper


def test_what_is_printed_or_logged_stands_above_the_bar(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    try:
        with live_view(10) as show:
            assert show is not None
            show(3, "a text")
            logging.getLogger("dln").warning("logged")
            print("printed")
            show(4, "another")
        logging.getLogger("dln").warning("later")
    finally:
        logging.getLogger().removeHandler(handler)
    *above, bar, last, rest = terminal.lines
    assert above == ["logged", "printed"]
    assert re.fullmatch(r"4/10 \S+ another", bar)
    assert (last, rest) == ("later", "")
    assert "\x1b[1A\x1b[2K" in terminal.getvalue().rpartition("another")[2]  # the bar's line is written over


def test_a_sweeps_bar_says_each_thing_once(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    with sweep_bar(50) as tell:
        tell(Report(runs=50, found=10, finished=7, diverged=1, seconds=16.0))
    bar, _ = terminal.lines
    assert re.fullmatch(r"18/50 \S+ 1 diverged, 2\.0 s/run, 64\.0 s left", bar)


def test_where_there_is_neither_a_terminal_nor_a_notebook_nothing_is_shown():
    with live_view(10) as show:
        assert show is None
