"""`dln plot`: what is drawn is what is stored, and what cannot be drawn is told."""

import numpy as np
import pytest
from matplotlib.colors import LogNorm

import dln
from dln.__main__ import main
from dln.cli.plot import figure_of
from dln.errors import ConfigError, StorageError

SHORT = {"max_steps": 8, "evaluate_every": 2, "model": {"hidden_dim": 5}}
AXES = {"max_steps": 8, "evaluate_every": 2, "model.hidden_dim": 5, "training.batch_size": 5}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run, a comparison, and sweeps: over seeds, over rates alone, with a theory, with sums in place of curves."""
    place = tmp_path_factory.mktemp("stored")
    dln.run_experiment({**SHORT, "metrics": ["weight_norm"]}, directory=place / "run")
    dln.run_experiment({"max_steps": 4, "training_b": {"lr": 0.001}}, directory=place / "pair")
    rates = {"training.lr": [0.001, 0.01, 50.0]}
    seeds = {"training.batch_seed": range(3), "training.batch_size": [1, 5]}
    dln.run_sweep({**AXES, **rates, **seeds}, directory=place / "seeds")
    dln.run_sweep({**AXES, **rates, **seeds, "aggregate": {"over": "training.batch_seed"}}, directory=place / "sums")
    theory = {"theory": ["plateaus", "gradient_flow"]}
    dln.run_sweep({**AXES, "training.lr": [0.001, 0.002], **theory}, directory=place / "rates")
    return place


def test_a_run_and_a_comparison_are_drawn_as_from_python(stored):
    assert [ax.get_ylabel() for ax in figure_of(stored / "run").axes] == ["loss", "weight norm"]
    [losses] = figure_of(stored / "pair").axes
    assert len(losses.lines) == 4


@pytest.mark.parametrize("kept", ["seeds", "sums"])
def test_of_a_sweep_means_over_seeds_are_drawn_with_their_intervals(stored, kept):
    table = dln.aggregate(stored / kept, over="training.batch_seed", of="test_loss")
    figure = figure_of(stored / kept, by=["training.batch_size", "training.lr"], figure="curves")
    assert [ax.get_title() for ax in figure.axes] == [f"learning rate {rate}" for rate in ("0.001", "0.01", "50")]
    for ax, rate in zip(figure.axes[:2], (0.001, 0.01), strict=True):
        for line, size in zip(ax.lines, (1, 5), strict=True):
            rows = table.filter(table["training.lr"] == rate, table["training.batch_size"] == size)
            np.testing.assert_array_equal(line.get_xdata(), rows["step"])
            np.testing.assert_allclose(line.get_ydata(), rows["test_loss mean"], rtol=1e-12)
            assert line.get_label() == f"{size}"


def test_of_a_sweep_without_seeds_every_run_is_drawn_and_what_theories_say_of_it(stored):
    frame = dln.load_sweep(stored / "rates")
    figure = figure_of(stored / "rates")
    [ax] = figure.axes
    names = ["test loss, 0.001", "test loss, 0.002", "gradient_flow, 0.001", "gradient_flow, 0.002"]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["0.001", "0.002", "test loss", "gradient_flow"]  # once each, not in pairs
    assert [line.get_label() for line in ax.lines] == names
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-", "--", "--"]
    np.testing.assert_allclose(ax.lines[3].get_ydata(), frame["test_loss_gradient_flow"][1].to_list())
    [timed] = figure_of(stored / "rates", x="time").axes
    np.testing.assert_allclose(timed.lines[1].get_xdata(), 0.002 * np.arange(0, 9, 2))


def test_a_map_shows_how_runs_end_and_where_they_diverge(stored):
    figure = figure_of(stored / "seeds", by=["training.batch_size", "training.lr"], figure="map")
    [mesh] = [c for c in figure.axes[0].collections if c.get_array() is not None and c.get_array().ndim == 2]
    table = dln.aggregate(stored / "seeds", over="training.batch_seed", of="test_loss")
    last = table.filter(table["step"] == 8).sort("training.lr", "training.batch_size")
    drawn = np.ma.filled(mesh.get_array(), np.nan)[:2]
    np.testing.assert_allclose(drawn.ravel(), last["test_loss mean"][:4], rtol=1e-12)
    assert isinstance(mesh.norm, LogNorm) == (drawn.max() > 20 * drawn.min())
    [hatched] = [c for c in figure.axes[0].collections if c.get_hatch()]
    assert len(hatched.get_paths()) == 2  # both sizes at the rate of 50
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all diverged"]


def test_the_command_says_where_the_figure_is(stored, tmp_path, capsys):
    main(["plot", str(stored / "seeds"), "--metric", "train_loss", "-o", str(tmp_path / "one.pdf")])
    about, where = capsys.readouterr().out.splitlines()
    assert about == "train_loss of 18 runs, colour training.lr, columns training.batch_size"
    assert where == f"figure in {tmp_path / 'one.pdf'}"
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    main(["plot", str(stored / "run")])
    assert (stored / "run/figure.png").exists()
    assert dln.load_run(stored / "run")["step"][-1] == 8  # a figure beside it is no damage


@pytest.mark.parametrize(
    ("what", "options", "error", "told"),
    [
        ("", {}, StorageError, "no run, sweep or study in .* itself; dln show"),
        ("run", {"metric": ["weight_nrm"]}, ConfigError, "did you mean 'weight_norm'"),
        ("run", {"by": ["training.lr"]}, ConfigError, "^--by: of sweeps, and .* is one run"),
        ("rates", {"figure": "map"}, ConfigError, "a map needs two keys that vary, and there is training.lr"),
        ("seeds", {"by": ["training.l"]}, (ConfigError, StorageError), "training.l"),
        ("seeds", {"metric": ["tst_loss"]}, (ConfigError, StorageError), "tst_loss"),
    ],
)
def test_what_cannot_be_drawn_is_told(stored, what, options, error, told):
    with pytest.raises(error, match=told):
        figure_of(stored / what, **options)
