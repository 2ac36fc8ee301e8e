"""`dln explore` from a shell."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from dln.__main__ import main
from dln.explorer import door


def test_it_says_where_it_is_answers_there_and_leaves_at_ctrl_c():
    command = [sys.executable, "-m", "dln", "explore"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}$", line)
        assert found, line
        with urllib.request.urlopen(found[0], timeout=60) as page:
            assert b"dln explore" in page.read()
        assert process.stdout.readline() == "Ctrl-C ends it.\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_without_the_extra_it_names_it(monkeypatch, capsys):
    monkeypatch.setattr(door.importlib.util, "find_spec", lambda name: None if name == "starlette" else object())
    with pytest.raises(SystemExit, match="2"):
        main(["explore"])
    assert capsys.readouterr().err == 'error: the explorer needs starlette: pip install "dln[explore]"\n'


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_there_is_not(port, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["explore", f"--port={port}"])
    assert "--port 0 takes a free one" in capsys.readouterr().err


def test_a_port_that_is_taken(capsys):
    with door.listening(0) as other, pytest.raises(SystemExit, match="2"):
        main(["explore", "--port", str(other.getsockname()[1])])
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize(("terminal", "browser", "opened"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_the_browser_opens_where_a_person_looks(monkeypatch, capsys, terminal, browser, opened):
    seen: list[str] = []
    monkeypatch.setattr(door.webbrowser, "open", seen.append)
    monkeypatch.setattr(door, "serve", lambda at, token: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    door.explore(0, browser)
    assert len(seen) == opened
    assert all(address in capsys.readouterr().out for address in seen)


def test_help_is_quick_and_loads_no_server():
    code = "import sys; from dln.__main__ import build_parser as b; b(); print({'starlette', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
