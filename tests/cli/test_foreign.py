"""Sweepers of others: what they may say is let through, and what they need is asked for, before any job."""

import json
import math

import pytest
from omegaconf import OmegaConf

from dln.cli.foreign import check_sweeper, maximized, some_job
from dln.errors import ConfigError

pytestmark = pytest.mark.long

SWEEPER = '''
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class Guessing(Sweeper):
    """Runs what it is given at three rates, and says what came back. Its params have a grammar of its own."""

    def __init__(self, rates, params=None, optim=None):
        self.rates = rates

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments):
        key, (axis,) = "lr", [a for a in arguments if "interval" in a]
        rest = [a for a in arguments if a is not axis]
        jobs = [[*rest, f"{axis.partition('=')[0]}={rate}"] for rate in self.rates]
        for job in self.launcher.launch(jobs, initial_job_idx=0):
            print("returned", job.return_value)


target = {"_target_": "hydra_plugins.guessing.Guessing", "rates": [0.001, 0.01, 5.0]}
free = {"params": {"max_steps": {"low": 1, "high": 9}}, "optim": {"maximize": False}}
ConfigStore.instance().store("guessing", {**target, **free}, "hydra/sweeper")
'''

STUDY = ["-m", "hydra/sweeper=guessing", "max_steps=30", "hydra.sweep.dir=here"]


@pytest.fixture
def guessing(tmp_path, door):
    """f(*argv, **options): what a door does with a sweeper that Python finds beside it."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "guessing.py").write_text(SWEEPER, encoding="utf-8")
    return lambda *argv, **options: door.run(tmp_path, *STUDY, *argv, PYTHONPATH=str(tmp_path), **options)


def returned(result):
    """What the sweeper was told by its jobs."""
    assert result.status == 0, result.err
    lines = [line for line in result.out.splitlines() if line.startswith("returned ")]
    return [eval(line.removeprefix("returned "), {"inf": math.inf}) for line in lines]


def final(directory, column):
    return json.loads((directory / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1])[column]


@pytest.mark.hydra
def test_a_sweeper_is_told_what_its_runs_came_to(guessing, tmp_path):
    """The last of its rates diverges; an axis in its own words is no grid of ours."""
    found = returned(guessing("training.lr=interval(0.001,0.02)", "objective={test_loss: last}"))
    assert found == [*(final(tmp_path / "here" / run, "test_loss") for run in "01"), math.inf]
    assert "diverged_at" in (tmp_path / "here" / "2" / "summary.json").read_text(encoding="utf-8")
    assert (tmp_path / "here" / "multirun.yaml").stat().st_size
    again = guessing("training.lr=interval(0.001,0.02)", "objective=test_loss")
    assert again.status == 1
    assert "here holds a sweep already" in again.err


@pytest.mark.long
@pytest.mark.hydra
def test_a_comparison_returns_several_numbers(guessing, tmp_path):
    argv = ["training_b.lr=interval(0.001,0.02)", "objective=[test_loss_a,param_distance]"]
    found = returned(guessing(*argv, "hydra.sweeper.optim.maximize=true", door="run_comparative.py"))
    expected = [tuple(final(tmp_path / "here" / run, c) for c in ("test_loss_a", "param_distance")) for run in "01"]
    assert found == [*expected, (final(tmp_path / "here" / "2", "test_loss_a"), -math.inf)]


@pytest.mark.hydra
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["training.lr=interval(0.001,0.02)"], "hydra/sweeper=guessing looks for good runs: set objective"),
        (["training.lr=interval(-2.0,-1.0)", "objective=test_loss"], "training.lr must be greater than 0"),
    ],
)
def test_what_can_be_checked_is_refused_before_any_job(argv, words, guessing, tmp_path):
    result = guessing(*argv)
    assert result.status == 2
    assert words in result.err
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "here").exists()


def config_of(sweeper, task=()):
    choices = {"hydra/sweeper": "mine"}
    return OmegaConf.create(
        {"hydra": {"sweeper": sweeper, "runtime": {"choices": choices}, "overrides": {"task": [*task]}}}
    )


def test_some_job_has_a_value_of_each_axis_that_can_be_read():
    task = ["a=int(interval(1,4))", "b=tag(log,interval(0.5,1.5))", "c=choice(x,y)", "d=range(3,9,2)", "e=5", "f=[1,2]"]
    task += ["g=interval(0.0,1.0)", "h={x: min}", "i=3,4", "~j", "k=shuffle(range(7,8))"]
    expected = ["a=2", "b=1.0", "c=x", "d=3", "e=5", "f=[1,2]", "g=0.5", "h={x: min}", "i=3", "~j", "k=7"]
    assert some_job(config_of({}, task)) == expected
    params = {"a": "interval(0.0, 1.0)", "b": {"low": 1}, "c": 3, "d": [1, 2], "e": "(((", "f": "choice(u,v)"}
    assert some_job(config_of({"params": params})) == ["a=0.5", "c=3", "f=u"]
    assert some_job(config_of({"params": None})) == []


def test_every_objective_has_a_direction():
    with pytest.raises(ConfigError, match="hydra/sweeper=mine looks for good runs: set objective"):
        check_sweeper(config_of({}), 0)
    for sweeper, objectives in [({}, 2), ({"direction": "minimize"}, 1), ({"direction": ["minimize"] * 2}, 2)]:
        check_sweeper(config_of(sweeper), objectives)
    for sweeper, objectives in [({"direction": "minimize"}, 2), ({"direction": ["minimize"] * 2}, 1)]:
        with pytest.raises(ConfigError, match=r"objective .* hydra.sweeper.direction"):
            check_sweeper(config_of(sweeper), objectives)


def test_whether_large_numbers_are_good_is_the_sweepers_word():
    ax = {"ax_config": {"experiment": {"minimize": False}}}
    for sweeper, expected in [
        ({}, [False]),
        ({"direction": "maximize"}, [True]),
        ({"direction": ["maximize"]}, [True]),
        ({"direction": "Direction.maximize"}, [True]),
        ({"optim": {"maximize": True}}, [True]),
        ({"optim": {"maximize": False}}, [False]),
        ({"optim": "something else"}, [False]),
        (ax, [True]),
    ]:
        assert maximized(OmegaConf.create(sweeper), 1) == expected
    assert maximized(OmegaConf.create({"direction": ["minimize", "maximize"]}), 2) == [False, True]
    assert maximized(OmegaConf.create(ax), 2) == [True, True]
