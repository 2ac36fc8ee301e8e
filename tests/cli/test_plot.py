"""`dln plot`: what is drawn is what is stored, and what cannot be drawn is told."""

import numpy as np
import pytest
from matplotlib.colors import LogNorm

import dln
from dln.__main__ import main
from dln.cli.plot import figure_of
from dln.errors import ConfigError, StorageError

pytestmark = pytest.mark.sampled(whole_file=True)

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


STUDY = """
about: How fast?
sweep: {training.batch_seed: 0..5, max_steps: 6, evaluate_every: 2, model.hidden_dim: 4, training.batch_size: 5}
parts:
  only:
    sweep: {"training.lr": "0.001,0.002"}
    aggregate: {over: training.batch_seed, of: [test_loss], by: [training.lr]}
sentences: [{name: crossings, params: {of: test_loss, level: 1.0}}]
"""
FIGURES = "figures: {path: {name: curves, params: {of: [test_loss], per: training.lr}}}\n"


@pytest.mark.long
@pytest.mark.parametrize("figures", ["", FIGURES])
def test_of_a_study_its_figures_are_drawn_again_or_the_sweep_of_its_only_part(figures, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(STUDY + figures)
    dln.run_study(tmp_path / "mine.yaml", directory=tmp_path / "s")
    main(["plot", str(tmp_path / "s")])
    said = capsys.readouterr().out.splitlines()
    if figures:
        assert said == ["figure path of the study, again", f"figure in {tmp_path}/s/figures/path.png"]
        assert (tmp_path / "s/figures/path.pdf").exists()
    else:
        assert said[0].startswith("the sweep of the only part, only: test_loss: mean over training.batch_seed")
        assert (tmp_path / "s/only/figure.png").exists()
    sweep = figure_of(tmp_path / "s", figure="finals" if not figures else None, metric="test_loss")
    assert sweep.axes[0].get_ylabel() == ("final test loss" if not figures else "test loss")
    if figures:
        with pytest.raises(ConfigError, match="has no figure 'pth'; did you mean 'path'"):
            figure_of(tmp_path / "s", figure="pth")
        (tmp_path / "s/tables/only.parquet").unlink()
        with pytest.raises(StorageError, match=r"cannot read .*only.parquet; give the study's command again"):
            figure_of(tmp_path / "s")


@pytest.mark.parametrize(
    ("figure", "metric", "told"),
    [
        ("map", None, "no figure 'map' of a run; known: losses, plane, sharpness, strengths, weights"),
        ("plane", "train_loss", "takes two, --metric train_loss,sharpness, not train_loss"),
        ("losses", "weight_norm", "--figure losses takes no --metric, not weight_norm"),
        ("sharpness", None, "--figure sharpness: .*sharpness"),
    ],
)
def test_figures_of_a_run(stored, figure, metric, told):
    with pytest.raises(ConfigError, match=told):
        figure_of(stored / "run", figure=figure, metric=metric)
    [axes] = figure_of(stored / "run", figure="plane", metric="train_loss,weight_norm").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("train loss", "weight norm")
    [axes] = figure_of(stored / "run", figure="losses", style="paper").axes
    assert axes.get_figure().get_figwidth() == 3.3


def test_words_on_the_command_line_are_values_and_names(stored, tmp_path, capsys):
    out = str(tmp_path / "x.svg")
    words = ["--where", "training.lr=0.01", "--baseline", "training.batch_size=1", "--over", "training.batch_seed"]
    main(["plot", str(stored / "seeds"), "-o", out, *words, "--log", "none", "--style", "paper"])
    about, _ = capsys.readouterr().out.splitlines()
    assert about == (
        "ratio of the mean test_loss to batch size 1, over training.batch_seed, with 95 % intervals, "
        "colour training.batch_size"
    )
    for words, told in ((["--where", "training.lr"], "--where takes KEY=VALUE"), (["--log", "q"], "no log 'q'")):
        with pytest.raises(SystemExit) as stop:
            main(["plot", str(stored / "seeds"), "-o", out, *words])
        assert stop.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert told in line
