"""Every command and every YAML example of the README works."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from dln.composing.compose import resolve
from dln.composing.grid import parse_grid, spelled_out
from dln.config import ComparativeConfig, SingleConfig
from dln.factory import check_names
from dln.results.frames import load_sweep
from dln.results.run import load_run
from dln.sweeps.driver import OWN_DIRECTORY_UP_TO

README = Path(__file__).resolve().parents[1] / "README.md"

PROMISED = r"""
python run.py
python run.py -cn=diagonal_teacher
python run.py training.lr=0.01 model.hidden_dim=20
python run.py data.params.scale=50.0
python run.py metrics=[weight_norm,gradient_norm]
python run.py training.batch_size=10 "callbacks=[{name: switch_batch_size, params: {step: 1000, batch_size: null}}]"
python run_comparative.py
python run_comparative.py shared.training.lr=0.01
python run_comparative.py training_b.batch_size=10
python run_comparative.py training_a.model_seed=42 training_b.model_seed=999
python run_comparative.py comparative_metrics=[param_distance,param_cosine_sim]
python run_comparative.py model_metrics=[weight_norm] comparative_metrics=[param_distance]
python run.py -m training.lr=0.0005,0.001,0.002
python run.py -m training.lr=0.001,0.01 model.num_hidden=2,3,4
python run_comparative.py -m shared.training.lr=0.0005,0.001,0.002
""".strip().splitlines()
"""What the project's first README promised, to the letter."""

STEPS = 12


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the README that runs an experiment, once, continuation lines joined."""
    lines = itertools.chain.from_iterable(b.replace("\\\n", " ").splitlines() for b in blocks("bash"))
    found = [" ".join(line.split()) for line in lines if line.strip().startswith("python run")]
    return list(dict.fromkeys(found))


def shortened(command: str) -> list[str]:
    """The door and its arguments, with few steps."""
    _, *argv = shlex.split(command, comments=True)
    if is_question(argv):
        return argv
    argv = [early(a) for a in argv]
    given = [a for a in argv if a.startswith("max_steps=")]
    if not given:
        return [*argv, f"max_steps={STEPS}"]
    few = ",".join(str(STEPS + i) for i in range(given[0].count(",") + 1))
    return [f"max_steps={few}" if a in given else a for a in argv]


def early(argument: str) -> str:
    """An argument, with steps in it that a short run has."""
    key, _, values = argument.partition("=")
    return f"{key}={','.join(map(str, range(values.count(',') + 1)))}" if key == "branch_at" else argument


def is_question(argv: list[str]) -> bool:
    """Whether a command prints something instead of running an experiment."""
    return any(a in ("--help", "-h", "--cfg", "-c", "--hydra-help") or a.startswith("--cfg=") for a in argv)


def expected_runs(argv: list[str]) -> int:
    """The number of runs that a command makes: for a sweep the product of the numbers of values."""
    if "-m" not in argv and "--multirun" not in argv:
        return 1
    return len(parse_grid([spelled_out(a) for a in argv if not a.startswith("-")]))


def test_the_readme_holds_every_promised_command():
    assert [c for c in PROMISED if c not in commands()] == []


def test_sweeps_are_counted_right():
    sizes = [expected_runs(shortened(c)[1:]) for c in PROMISED]
    assert sizes == [1] * 12 + [3, 6, 3]


@pytest.mark.long
@pytest.mark.parametrize("command", commands())
def test_command(command, door, tmp_path):
    name, *argv = shortened(command)
    result = door.run(tmp_path, *argv, door=name)
    assert result.status == 0, result.err
    assert result.err == ""
    if is_question(argv):
        assert result.out.strip()
        return
    if expected_runs(argv) > OWN_DIRECTORY_UP_TO:
        (directory,) = (a.partition("=")[2] for a in argv if a.startswith("hydra.sweep.dir="))
        assert len(load_sweep(result.cwd / directory)) == expected_runs(argv)
        return
    closing = [line for line in result.out.splitlines() if " | " in line and "[HYDRA]" not in line]
    directories = {result.cwd / line.rpartition(" | ")[2] for line in closing}
    assert len(closing) == len(directories) == expected_runs(argv)
    assert {p.parent for p in result.cwd.rglob("history.jsonl")} == directories
    steps = {int(n) for a in argv if a.startswith("max_steps=") for n in a.partition("=")[2].split(",")}
    for directory in directories:
        final = load_run(directory).final
        assert final["step"] in steps
        assert any("train_loss" in name for name in final)
        assert "${" not in (directory / ".hydra" / "config.yaml").read_text(encoding="utf-8")


def schema_of(example: dict) -> type:
    return ComparativeConfig if any(k.endswith(("_a", "_b")) or k == "shared" for k in example) else SingleConfig


@pytest.mark.sampled
@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_example(block, tmp_path, compose_file):
    example = yaml.safe_load(block)
    schema = schema_of(example)
    resolved = resolve(example, schema)
    if "my_" not in block:  # names that the README invents are registered nowhere
        check_names(resolved)
    own = tmp_path / "own.yaml"
    own.write_text(block, encoding="utf-8")
    assert compose_file(own, schema) == resolved
    assert compose_file(own, schema, ["max_steps=7"]).max_steps == 7


def test_there_are_yaml_examples_of_both_kinds():
    assert {schema_of(yaml.safe_load(b)) for b in blocks("yaml")} == {SingleConfig, ComparativeConfig}
