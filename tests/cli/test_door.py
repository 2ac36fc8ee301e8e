"""The doors as a user meets them: exit status, streams, directories, interrupts. Bad input has a file of its own."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import dln
from dln.callbacks import CALLBACKS
from dln.cli.door import user_trace
from dln.cli.help import help_text
from dln.config import ComparativeConfig, SingleConfig, fields
from dln.history import History
from dln.ingredients.teachers import MATRICES
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS
from dln.results.run import load_run
from dln.terminal import closing_line

ROOT = Path(__file__).resolve().parents[2]
SCREENFUL = 85
LONG = "max_steps=200000"  # minutes

EXTENSION = '''
from dln import comparative_metric, model_metric, register_callback, register_inputs, register_matrix
from dln.timeline import acting_at
import os
import signal
import torch

calls = []

@model_metric("fragile")
def fragile(model):
    """Fails at its fourth call."""
    calls.append(1)
    if len(calls) == 4:
        raise ValueError("out of luck")  # metric
    return float(len(calls))

@register_callback("faulty")
def faulty(at: int):
    """Fails at step `at`."""
    def callback(step, trainer):
        if step == at:
            return {}["missing"]  # callback
    return callback

@register_callback("declared")
def declared(at: int):
    """Fails at step `at`, the only one it acts on: the compiled engine calls it."""
    def callback(step, trainer):
        return [][step]  # declared
    return acting_at([at], callback)

@comparative_metric("gap")
def gap(model_a, model_b):
    """A metric of the pair."""
    return 0.0

@register_inputs("interrupting")
def interrupting(samples, dim, rng):
    """Ctrl-C while the data is made: a few samples only check the config."""
    if samples > 10:
        os.kill(os.getpid(), signal.SIGINT)
    return rng.standard_normal((samples, dim))

@register_matrix("ones")
def ones(in_dim, out_dim, params):
    """A teacher of the user's own."""
    return torch.ones(out_dim, in_dim)
'''


def strict_records(directory: Path) -> list[dict]:
    """The records of a history file, which must be strict JSON, every line complete."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (directory / "history.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def only_run(cwd: Path) -> Path:
    """The one run directory below `cwd`."""
    (history,) = cwd.rglob("history.jsonl")
    return history.parent


def has_records(cwd: Path) -> bool:
    return any(path.stat().st_size > 2000 for path in cwd.rglob("history.jsonl"))


@pytest.fixture
def lab(tmp_path):
    """A working directory with a user's extension module `my_lab.py` in it."""
    (tmp_path / "my_lab.py").write_text(EXTENSION, encoding="utf-8")
    return tmp_path


def line_with(marker: str) -> int:
    return next(i for i, line in enumerate(EXTENSION.splitlines(), start=1) if marker in line)


# --- a user's code that fails -----------------------------------------------------------------------------------------


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("overrides", "named", "marker", "raised"),
    [
        (["metrics=[fragile]"], "metric 'fragile'", "# metric", "ValueError: out of luck"),
        (["callbacks=[{name: faulty, params: {at: 3}}]"], "callback 'faulty'", "# callback", "KeyError: 'missing'"),
        (["callbacks=[{name: declared, params: {at: 3}}]"], "callback 'declared'", "# declared", "IndexError"),
    ],
)
def test_a_users_code_that_raises_is_named_with_its_step(overrides, named, marker, raised, door, lab):
    result = door.run(lab, "max_steps=9", "extensions=[my_lab]", *overrides, PYTHONPATH=str(lab))
    assert result.status == 1
    last = result.err.splitlines()[-1]
    assert named in last
    assert "step 3" in last
    frames = re.findall(r'File "(.+)", line (\d+)', result.err)
    assert frames == [(str(lab / "my_lab.py"), str(line_with(marker)))]
    assert raised in result.err
    directory = only_run(lab)
    assert [r["step"] for r in strict_records(directory)] == [0, 1, 2]
    assert load_run(directory).final["step"] == 2
    assert summary(directory)["status"] == "failed"
    assert summary(directory)["steps"] == 3


def test_user_trace_starts_in_the_users_code():
    entry = MODEL_METRICS.get("balancedness")
    with pytest.raises(TypeError) as caught:
        entry(None)
    shown = "".join(user_trace(caught.value))
    assert "in balancedness" in shown
    assert "registry.py" not in shown
    assert "TypeError" in shown


# --- runs that end otherwise ------------------------------------------------------------------------------------------


def test_divergence_is_a_result(door, tmp_path):
    result = door.run(tmp_path, "training.lr=5", "max_steps=100", "metrics=[weight_norm]")
    assert result.status == 0
    assert result.err == ""
    at = summary(result.directory)["events"]["diverged_at"]
    assert f"step {at} of 100" in result.out
    assert "diverged" in result.out
    assert summary(result.directory)["status"] == "diverged"
    assert [r["step"] for r in strict_records(result.directory)] == list(range(at))
    assert load_run(result.directory).diverged_at == at


def test_a_lane_that_diverges_leaves_strict_json(door, tmp_path):
    argv = ["training_a.lr=5", "max_steps=12", "comparative_metrics=[param_distance]"]
    result = door.run(tmp_path, *argv, door="run_comparative.py")
    assert result.status == 0
    at = summary(result.directory)["events"]["diverged_at_a"]
    assert f"diverged_a at step {at}" in result.out
    records = strict_records(result.directory)
    assert [r["step"] for r in records] == list(range(13))
    assert all(("train_loss_a" in r) == (r["step"] < at) and "train_loss_b" in r for r in records)


def test_ctrl_c_says_how_far_it_got(door, tmp_path, waiting):
    process = door.start(tmp_path, LONG, "evaluate_every=10")
    waiting(lambda: process.ended or has_records(tmp_path), "some records")
    process.send(signal.SIGINT)
    result = process.wait()
    directory = only_run(tmp_path)
    records = strict_records(directory)
    assert result.status == 130
    assert "Traceback" not in result.err
    assert [r["step"] for r in records] == [10 * i for i in range(len(records))]
    assert f"step {records[-1]['step']} of 200000" in result.err.splitlines()[-1]
    assert str(directory.relative_to(tmp_path)) in result.err.splitlines()[-1]
    assert summary(directory)["status"] == "interrupted"


def test_ctrl_c_before_the_first_record(door, lab):
    result = door.run(lab, "extensions=[my_lab]", "data.inputs=interrupting", PYTHONPATH=str(lab))
    assert result.status == 130
    assert "Traceback" not in result.err
    assert "interrupted" in result.err.splitlines()[-1]
    directory = only_run(lab)
    assert load_run(directory).records == []
    assert summary(directory)["status"] == "interrupted"


def test_a_killed_run_leaves_its_records(door, tmp_path, waiting):
    process = door.start(tmp_path, LONG, "metrics=[layer_norms]")
    waiting(lambda: process.ended or has_records(tmp_path), "some records")
    process.send(signal.SIGKILL)
    assert process.wait().status == -signal.SIGKILL
    directory = only_run(tmp_path)
    lines = (directory / "history.jsonl").read_text(encoding="utf-8").split("\n")
    history = load_run(directory)
    assert history["step"].tolist() == list(range(len(lines) - 1))
    assert [json.loads(line)["step"] for line in lines[:-1]] == list(range(len(history)))
    assert len(history) > 10


def test_a_full_disk_is_reported_and_the_records_before_are_safe(small_disk, door):
    result = door.run(small_disk.path, "max_steps=20000", "metrics=[layer_norms]")
    assert result.status == 1
    assert "Traceback" not in result.err
    directory = only_run(small_disk.path)
    history = load_run(directory)
    assert len(history) > 50
    assert history["step"].tolist() == list(range(len(history)))
    message = result.err.splitlines()[-1]
    assert "history.jsonl" in message
    assert f" {len(history)} records" in message


# --- terminals and pipes ----------------------------------------------------------------------------------------------


def test_piped_output_is_one_plain_line(door, tmp_path):
    result = door.run(tmp_path, "max_steps=300")
    assert result.status == 0
    assert result.err == ""
    assert "\r" not in result.out
    assert "\x1b" not in result.out
    assert result.out.count("\n") == 1
    assert result.out.startswith("300 steps in ")
    final = strict_records(result.directory)[-1]
    assert final["step"] == 300
    assert f"train_loss {final['train_loss']:.3e}" in result.out
    assert f"test_loss {final['test_loss']:.3e}" in result.out


def test_a_terminal_shows_progress(door, tmp_path):
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the other side is closed
                return
            if not chunk:
                return
            seen.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    argv = ["max_steps=2000", "evaluate_every=100"]
    result = door.run(tmp_path, *argv, stderr=os.ttyname(theirs), TERM="xterm", COLUMNS="100")
    os.close(theirs)
    reader.join(30)
    os.close(ours)
    shown = b"".join(seen).decode()
    assert result.status == 0
    assert "/2000" in shown
    assert "\x1b[" in shown  # it is drawn over itself
    assert result.out.count("\n") == 1  # and standard output stays plain
    assert "\x1b" not in result.out


# --- directories ------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.hydra
def test_two_runs_of_the_same_moment_get_two_directories(door, tmp_path):
    """Also what each holds: the resolved config, from which the same history can be made again."""
    text = "max_steps: 6\ntraining: {lr: '${oc.env:LR}', batch_size: 7}\nhydra: {run: {dir: of_this_second}}\n"
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    argv = ["--config-dir=.", "-cn=own", "metrics=[weight_norm]"]
    rates = (0.001, 0.002)
    processes = [door.start(tmp_path, *argv, LR=str(lr)) for lr in rates]
    results = [process.wait() for process in processes]
    assert [r.status for r in results] == [0, 0], results[0].err + results[1].err
    directories = [r.directory for r in results]
    assert {d.name for d in directories} == {"of_this_second", "of_this_second-2"}
    for directory, lr in zip(directories, rates, strict=True):
        config = OmegaConf.load(directory / ".hydra" / "config.yaml")
        assert config.training.lr == lr
        assert "${" not in (directory / ".hydra" / "config.yaml").read_text(encoding="utf-8")
        again = dln.run_experiment(OmegaConf.to_container(config))
        assert again.records == load_run(directory).records == strict_records(directory)


@pytest.mark.long
def test_a_comparison_can_be_made_again_from_its_resolved_config(door, tmp_path):
    argv = ["max_steps=6", "training_b.batch_size=10", "shared.training.lr=0.002", "model_metrics=[layer_norms]"]
    result = door.run(tmp_path, *argv, door="run_comparative.py")
    assert result.status == 0, result.err
    config = OmegaConf.to_container(OmegaConf.load(result.directory / ".hydra" / "config.yaml"))
    assert dln.run_experiment(config).records == strict_records(result.directory)


@pytest.mark.long
def test_the_commands_of_a_directory_can_be_given_again(door, tmp_path):
    """A shell reads what is kept there as just the words that were typed, whatever is in them."""
    odd = ["max_steps=2", "training.batch_seed=0..1", "hydra.sweep.subdir='${hydra.job.num} #'", "hydra.sweep.dir=a b"]
    for more in (["training.lr=1e-3"], ["training.lr=1e-3,2e-3"]):
        assert door.run(tmp_path, "-m", *odd, *more).status == 0
    assert door.run(tmp_path, "-m", *odd, "model.gamma=2").status == 2  # other fixed values: refused
    noted = (tmp_path / "a b" / "commands.txt").read_text(encoding="utf-8")
    first, second = [shlex.split(line) for line in noted.splitlines() if not line.startswith("#")]
    assert first[2:] == ["-m", *odd, "training.lr=1e-3"]
    assert second[2:] == ["-m", *odd, "training.lr=1e-3,2e-3"]
    single = door.run(tmp_path, "max_steps=2", "data.params={scale: 2, matrix: identity}")
    lines = (single.directory / ".hydra" / "commands.txt").read_text(encoding="utf-8").splitlines()
    again = subprocess.run(
        ["sh"], input=f"printf '%s|' {lines[1]}", capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert again.stdout.split("|")[2:-1] == ["max_steps=2", "data.params={scale: 2, matrix: identity}"]
    assert re.fullmatch(rf"# \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d in {tmp_path}", lines[0])


@pytest.mark.hydra
@pytest.mark.parametrize(
    ("argv", "file"),
    [
        (["max_steps=4", "hydra.run.dir=here"], "here/history.jsonl"),
        (["-m", "max_steps=4,5", "hydra/sweeper=basic", "hydra.sweep.dir=here"], "here/1/history.jsonl"),
    ],
)
def test_a_directory_that_holds_results_is_refused(argv, file, door, tmp_path):
    first = door.run(tmp_path, *argv)
    assert first.status == 0, first.err
    before = {name: (tmp_path / name).read_bytes() for name in first.created if (tmp_path / name).is_file()}
    assert file in before
    second = door.run(tmp_path, *argv)
    assert second.status in (1, 2)
    assert second.out == ""
    assert "here" in second.err
    assert second.err.count("\n") == 1
    assert second.created == first.created
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_users_own_file_can_be_overridden_in_keys_it_does_not_mention(door, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.yaml").write_text("training: {lr: 0.01}\nmax_steps: 4\n", encoding="utf-8")
    argv = ["--config-dir=mine", "-cn=own", "model.gamma=1.25", "data.params.scale=3", "training.batch_size=10"]
    result = door.run(tmp_path, *argv)
    assert result.status == 0, result.err
    config = OmegaConf.to_object(OmegaConf.load(result.directory / ".hydra" / "config.yaml"))
    assert config["training"]["lr"] == 0.01
    assert config["training"]["batch_size"] == 10
    assert config["model"]["gamma"] == 1.25
    assert config["model"]["hidden_dim"] == 50
    assert config["data"]["params"] == {"matrix": "diagonal", "scale": 3}
    assert load_run(result.directory)["step"].tolist() == [0, 1, 2, 3, 4]


# --- what it says -----------------------------------------------------------------------------------------------------


def test_help_is_a_screenful_and_lists_extensions(door, lab):
    result = door.run(lab, "--help", "extensions=[my_lab]", PYTHONPATH=str(lab))
    assert result.status == 0
    assert result.err == ""
    assert len(result.out.splitlines()) <= SCREENFUL
    for name in ("fragile", "faulty(at)", "ones", "training.lr=0.0005"):
        assert re.search(rf"^  {re.escape(name)}", result.out, re.MULTILINE), name
    assert "Fails at step" in result.out
    assert [path for path in result.created if "__pycache__" not in path] == ["my_lab.py"]


@pytest.mark.parametrize(
    ("schema", "script", "registries"),
    [
        (SingleConfig, "run.py", [MODEL_METRICS, CALLBACKS, MATRICES]),
        (ComparativeConfig, "run_comparative.py", [MODEL_METRICS, COMPARATIVE_METRICS, CALLBACKS, MATRICES]),
    ],
)
def test_help_names_every_key_and_every_registered_name(schema, script, registries):
    text = help_text(schema, [script])
    for key, _ in fields(schema):
        if not key.startswith(("model_a", "model_b", "training_a", "training_b")):
            section, _, leaf = key.rpartition(".")
            beside = rf"^  {re.escape(section)}.*, {leaf}="  # what belongs together stands on one line
            assert re.search(rf"^  {re.escape(key)}=|{beside}", text, re.MULTILINE), key
    for registry in registries:
        for entry in registry:
            assert re.search(rf"\b{re.escape(entry.name)}\b", text), entry.name
    for config in (ROOT / "configs" / ("single" if schema is SingleConfig else "comparative")).glob("*.yaml"):
        assert config.stem in text
    assert f"python {script}" in text


@pytest.mark.long
def test_help_of_a_fresh_process_is_a_screenful():
    """A real start from a narrow shell, comparative: the longer of the two helps."""
    command, narrow = [sys.executable, str(ROOT / "run_comparative.py"), "--help"], {**os.environ, "COLUMNS": "80"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=narrow)
    assert result.stderr == ""
    assert 20 < len(result.stdout.splitlines()) <= SCREENFUL
    assert max(map(len, result.stdout.splitlines())) <= 140
    assert "shared.training.lr=0.0005" in result.stdout


def test_closing_line_of_a_run_that_was_stopped():
    history = History([{"step": 7, "train_loss_a": 0.25, "train_loss_b": 0.5}], {"stopped_at_a": 7, "stopped_at_b": 5})
    assert closing_line(history, 100, 2.0, "outputs/x").split(" | ") == [
        "stopped_a at step 7, stopped_b at step 5 of 100 in 2.0 s",
        "train_loss_a 2.500e-01, train_loss_b 5.000e-01",
        "outputs/x",
    ]


def test_closing_line_of_a_run_without_records():
    assert closing_line(History([], {"diverged_at": 0}), 5, 0.0, "x") == "diverged at step 0 of 5 in 0.0 s | x"
