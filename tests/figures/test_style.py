"""What all figures share."""

from __future__ import annotations

import re
import zlib
from itertools import combinations

import numpy as np
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.colors import to_rgb

from dln.errors import StorageError
from dln.figures import style
from dln.figures.style import LANES
from dln.plotting import plot_run, plot_sweep, save_figure
from tests.figures.histories import overlaps, single

pytestmark = pytest.mark.sampled(whole_file=True)

# Machado, Oliveira and Fernandes (2009), severity 1, of linear RGB
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
TOGETHER = [
    (style.TRAIN, style.TEST, style.BATCH, style.POPULATION, style.THEORY),
    (style.TRAIN, style.LIMIT, style.THEORY),
    (*LANES.values(), style.LIMIT),
    (*LANES.values(), style.TEACHER, style.THEORY),
    (*LANES.values(), *style.LIGHT_LANES.values()),
    style.PALETTE,
]
"""Colours that stand in one panel."""


def lab(color: str, matrix) -> np.ndarray:
    """A colour as one sees it, in CIE L*a*b* with white at D65."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)])
    seen = (np.asarray(matrix) @ linear).clip(0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = to_xyz @ seen / [0.9505, 1.0, 1.089]
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("colors", TOGETHER)
def test_colours_of_one_panel_are_told_apart_by_colour_blind_readers_too(colors, blindness):
    for one, other in combinations(dict.fromkeys(colors), 2):
        distance = np.linalg.norm(lab(one, BLINDNESS[blindness]) - lab(other, BLINDNESS[blindness]))
        assert distance > 10, (one, other)


def test_the_ramp_rises_in_lightness():
    lightness = [lab(style.RAMP(share), np.eye(3))[0] for share in np.linspace(0, 1, 20)]
    assert np.all(np.diff(lightness) > 1)
    assert lightness[-1] < 90  # seen on white


@pytest.mark.parametrize(("panels", "inches"), [(1, 3.3), (3, 6.9)])
def test_paper_has_a_journals_width_and_embedded_true_type(panels, inches, tmp_path):
    history = single(**{f"m{i}": float for i in range(panels - 1)})
    figure = plot_run(history, style="paper")
    pdf = save_figure(figure, tmp_path / "f.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ ?([\d. ]+)\]", pdf)
    assert box is not None
    assert float(box[1].split()[2]) == pytest.approx(72 * inches, abs=0.1)
    streams = [
        zlib.decompress(part) for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S) if part[:1] == b"x"
    ]
    whole = pdf + b"".join(streams)
    assert b"/FontFile2" in whole  # TrueType, embedded
    assert b"/Type3" not in whole
    assert b"/Subtype /Image" not in whole  # curves are vectors
    sizes = {
        text.get_fontsize() for ax in figure.axes for text in (ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels())
    }
    assert all(7 <= size <= 8 for size in sizes)
    assert overlaps(figure) == []


def test_figures_leave_matplotlib_as_it_was():
    from matplotlib import pyplot

    before = dict(rcParams)
    plot_run(single(v=lambda s: [1.0, 2.0])).draw_without_rendering()
    plot_sweep({1: single()}).draw_without_rendering()
    assert dict(rcParams) == before
    assert pyplot.get_fignums() == []


def test_figures_look_the_same_wherever_they_are_drawn():
    before, figure = plot_run(single())._repr_png_(), plot_run(single())
    with rc_context({"font.size": 31, "axes.linewidth": 5}):
        assert figure._repr_png_() == before


def test_legends_cover_no_data():
    alone, several = plot_run(single()), plot_run(single(v=float))
    for figure, legend in ((alone, alone.axes[0].get_legend()), (several, several.legends[0])):
        figure.draw_without_rendering()
        assert legend is not None
        assert legend.get_window_extent().y0 >= max(ax.get_window_extent().y1 for ax in figure.axes)


@pytest.mark.sampled
@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_save_figure_makes_folders_and_follows_the_suffix(suffix: str, start: bytes, tmp_path):
    path = save_figure(plot_run(single()), tmp_path / "new" / "folder" / f"figure{suffix}")
    assert path == tmp_path / "new" / "folder" / f"figure{suffix}"
    assert path.read_bytes().startswith(start)


def test_png_has_200_dots_an_inch(tmp_path):
    from matplotlib.image import imread

    figure = plot_run(single())
    width, height = figure.get_size_inches()
    dots = imread(save_figure(figure, tmp_path / "f.png")).shape[:2]
    assert np.abs(np.subtract(dots, (200 * height, 200 * width))).max() < 1  # there is no part of a dot


def test_save_figure_refuses_other_suffixes_and_unwritable_places(tmp_path):
    with pytest.raises(StorageError, match=r"\.png, \.pdf or \.svg"):
        save_figure(plot_run(single()), tmp_path / "figure.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        save_figure(plot_run(single()), tmp_path / "file" / "figure.png")


def test_notebooks_show_a_figure():
    assert plot_run(single())._repr_png_().startswith(b"\x89PNG")
