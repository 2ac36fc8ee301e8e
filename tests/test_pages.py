"""Everything that the README and the pages of docs/ tell a reader to give or to write works, in order, page by page."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from dln.__main__ import main
from dln.composing.compose import resolve
from dln.composing.grid import parse_grid, spelled_out
from dln.config import ComparativeConfig, SingleConfig
from dln.factory import check_names
from dln.results.frames import load_sweep
from dln.results.run import load_run
from dln.sweeps.driver import OWN_DIRECTORY_UP_TO
from tests.pages import PAGES, STEPS, blocks, fences, is_question, lines, shortened
from tests.test_readme import PROMISED

OF_THEIR_OWN = ("docs/sweeps.md", "docs/studies.md", "docs/theory.md")
"""Pages that tests/test_docs.py follows."""
FOLLOWED = [
    name
    for name, page in PAGES.items()
    if name not in OF_THEIR_OWN and any(language in ("bash", "python") for language, _ in fences(page))
]


def expected_runs(argv: list[str]) -> int:
    """The number of runs that a command makes: for a sweep the product of the numbers of values."""
    if "-m" not in argv and "--multirun" not in argv:
        return 1
    return len(parse_grid([spelled_out(a) for a in argv if not a.startswith("-")]))


def test_sweeps_are_counted_right():
    sizes = [expected_runs(shortened(c)[1:]) for c in PROMISED]
    assert sizes == [1] * 12 + [3, 6, 3]


@pytest.mark.long
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_reader_who_gives_everything_in_order(name, door, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "reader"}
    for language, text in fences(PAGES[name]):
        if language == "bash":
            for line in lines(text):
                give(line, door, tmp_path)
        elif language == "python" and (module := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / module[1]).write_text(text, encoding="utf-8")
        elif language == "python" and ("import optuna" not in text or find_spec("optuna")):
            exec(compile(text, name, "exec"), names)


def give(line, door, directory):
    """Give a command, with few steps, and check what it leaves and says."""
    program, *argv = shlex.split(line, comments=True)
    if program == "dln" or argv[:2] == ["-m", "dln"]:
        main(argv if program == "dln" else argv[2:])
        return
    script, *argv = shortened(line)
    before = {path.parent for path in directory.rglob("history.jsonl")}
    result = door.run(directory, *argv, door=script)
    launched = any(
        a.startswith("hydra/launcher=") for a in argv
    )  # joblib's workers have words of their own at their end
    assert (result.status, launched or result.err) == (0, launched or ""), f"{line}\n{result.err}"
    if is_question(argv):
        assert result.out.strip()
        return
    if expected_runs(argv) > OWN_DIRECTORY_UP_TO:
        (swept,) = (a.partition("=")[2] for a in argv if a.startswith("hydra.sweep.dir="))
        assert len(load_sweep(directory / swept)) == expected_runs(argv)
        return
    closing = [one for one in result.out.splitlines() if " | " in one and "[HYDRA]" not in one]
    directories = {directory / one.rpartition(" | ")[2] for one in closing}
    assert len(closing) == len(directories) == expected_runs(argv), line
    assert {path.parent for path in directory.rglob("history.jsonl")} - before == directories
    steps = {int(n) for a in argv if a.startswith("max_steps=") for n in a.partition("=")[2].split(",")}
    for one in directories:
        final = load_run(one).final
        assert final["step"] in steps
        assert any("train_loss" in column for column in final)
        assert "${" not in (one / ".hydra" / "config.yaml").read_text(encoding="utf-8")


def schema_of(example: dict) -> type:
    return ComparativeConfig if any(k.endswith(("_a", "_b")) or k == "shared" for k in example) else SingleConfig


def examples():
    """Every config that a page shows; studies are other files."""
    found = [block for page in PAGES.values() for block in blocks(page, "yaml")]
    return [block for block in found if "parts" not in yaml.safe_load(block)]


@pytest.mark.sampled
@pytest.mark.parametrize("block", examples())
def test_yaml_example(block, tmp_path, compose_file):
    example = yaml.safe_load(block)
    if "hydra" in example:  # keys of sweeps and launchers, which are no keys of a run
        sweeper = example.pop("hydra")["sweeper"]
        example.pop("defaults", None)
        assert set(sweeper) <= {"params", "members"}
        resolve(example, SingleConfig)
        return
    schema = schema_of(example)
    resolved = resolve(example, schema)
    if "my_" not in block:  # names that a page makes up are registered by its modules alone
        check_names(resolved)
    own = tmp_path / "own.yaml"
    own.write_text(block, encoding="utf-8")
    assert compose_file(own, schema) == resolved
    assert compose_file(own, schema, [f"max_steps={STEPS}"]).max_steps == STEPS


def test_there_are_yaml_examples_of_both_kinds():
    assert {schema_of(yaml.safe_load(block)) for block in examples()} == {SingleConfig, ComparativeConfig}


def test_every_fence_is_of_a_kind_that_is_looked_at():
    """What a page shows of output, files or commands for others' machines is in a fence without a language."""
    assert {language for page in PAGES.values() for language, _ in fences(page)} <= {"bash", "python", "yaml", ""}


def test_pages_are_read_whole():
    """No page has a fence that the pattern misses, as one that is indented."""
    for name, page in PAGES.items():
        assert len(re.findall(r"^\s*```", page, re.MULTILINE)) == 2 * len(fences(page)), name
    assert Path("docs/index.md").as_posix() in PAGES
