"""The cells of a sweep: what the product of axes is, zips, the shorthand, and what is refused."""

import itertools

import numpy as np
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dln.composing.grid import parse_grid, quoted, spelled_out, value_of, values_by_key
from dln.composing.loader import load_config
from dln.config import SingleConfig
from dln.errors import ConfigError

VALUES = st.sampled_from(
    ["1", "1,2", "range(0,3)", "0.1,1e-3,2", "null,5", "choice(a,b)", "[1,2],[3]", "{a:1},{b:2}", "'x y',z"]
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c.d", "+e"]), VALUES), unique_by=lambda o: o[0], max_size=4))
def test_cells_are_those_of_hydras_own_sweeper_in_its_order(pairs):
    overrides = [f"{key}={value}" for key, value in pairs]
    grid = parse_grid(overrides)
    expected = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)[0]
    assert [sorted(grid.overrides(cell)) for cell in range(len(grid))] == [sorted(job) for job in expected]


def test_the_later_of_two_overrides_of_a_key_counts():
    assert parse_grid(["a=1,2", "a=3"]).overrides(0) == ["a=3"]


def test_zipped_keys_move_together_and_cross_the_others():
    grid = parse_grid(["a=1,2", "b=x,y", "c=3,4", "d=5,6", "e=7"], zips=[["a", "c"], ["d", "b"]])
    cells = [grid.overrides(cell) for cell in range(len(grid))]
    expected = [
        [f"a={a}", f"c={c}", f"d={d}", f"b={b}", "e=7"]
        for (a, c), (d, b) in itertools.product([(1, 3), (2, 4)], [(5, "x"), (6, "y")])
    ]
    assert sorted(map(sorted, cells)) == sorted(map(sorted, expected))


@pytest.mark.parametrize(
    ("shorthand", "values"),
    [("s=0..3", [0, 1, 2, 3]), ("s=5..20..7", [5, 12, 19]), ("s=-2..0", [-2, -1, 0]), ("s=4..4", [4])],
)
def test_the_shorthand_has_both_ends_as_in_the_shell(shorthand, values):
    grid = parse_grid([shorthand])
    assert [grid.overrides(cell) for cell in range(len(grid))] == [[f"s={v}"] for v in values]


@given(
    st.sampled_from(["linspace", "logspace"]),
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
    st.integers(2, 40),
)
def test_spaced_values_are_those_of_numpy(kind, first, last, count):
    (axis,) = parse_grid([f"training.lr={kind}({first!r},{last!r},{count})"]).axes
    (values,) = axis.values()
    space = np.linspace if kind == "linspace" else np.geomspace
    np.testing.assert_allclose(list(values), space(first, last, count), rtol=1e-11, atol=1e-9)


def test_spaced_values_are_round_where_they_can_be():
    assert spelled_out("training.lr=logspace(1e-4,1,5)") == "training.lr=0.0001,0.001,0.01,0.1,1.0"
    assert spelled_out("+data.params.scale=linspace(-1,1,5)") == "+data.params.scale=-1.0,-0.5,0.0,0.5,1.0"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("max_steps=1e5", "max_steps=100000"),
        ("shared.training.batch_size=1e1,25.0,null", "shared.training.batch_size=10,25,null"),
        ("training.model_seed=choice(1e3,2e3),range(0,1e2)", "training.model_seed=choice(1000,2000),range(0,100)"),
        ("training.model_seed=3", "training.model_seed=3"),
        ("max_steps=1.5", "max_steps=1.5"),
        ("max_steps=1e-1", "max_steps=1e-1"),
        ("training.lr=1e2", "training.lr=1e2"),
    ],
)
def test_whole_numbers_may_be_written_as_1e5(written, meant):
    assert spelled_out(written) == meant


def test_from_python_keys_are_named_as_they_were_given():
    assert load_config(["max_steps=1e1"], SingleConfig).max_steps == 10
    with pytest.raises(ConfigError, match="unknown key 'zip'"):  # there is no command line to sweep from
        load_config(["zip=[a,b]"], SingleConfig)


@pytest.mark.parametrize("word", ["a=1", "a=0.5", "a=..", "a=1..", "a=x..y", "path=../data", "a=1.5..2", "~a"])
def test_nothing_else_is_taken_for_the_shorthand(word):
    assert spelled_out(word) == word


def test_a_range_of_millions_takes_no_memory():
    grid = parse_grid(["seed=range(0,5000000)", "lr=1,2"])
    assert len(grid) == 10_000_000
    assert grid.overrides(9_999_999) == ["seed=4999999", "lr=2"]


def test_shuffled_values_are_drawn_once():
    grid = parse_grid(["a=shuffle(range(0,50))"])
    assert grid.overrides(7) == grid.overrides(7)
    assert {grid.overrides(cell)[0] for cell in range(50)} == {f"a={i}" for i in range(50)}


@pytest.mark.parametrize(
    ("overrides", "zips", "named"),
    [
        (["a=1,2", "b=1,2,3"], [["a", "b"]], "equally many values: a has 2, b has 3"),
        (["a=1,2"], [["a", "lr"]], "'lr', which is not swept over; swept: a"),
        (["a=1,2"], [["a", "a"]], "'a' twice"),
        (["a=interval(0,1)"], [], "give a list or a range"),
        (["a=5..1"], [], "no values"),
        (["a=range(0,0)"], [], "no value"),
        (["a=logspace(0,1,3)"], [], "are positive; linspace"),
        (["a=linspace(0,1,1)"], [], "COUNT must be from 2"),
        (["a=linspace(0,x,3)"], [], r"write linspace\(FIRST,LAST,COUNT\)"),
    ],
)
def test_what_cannot_be_swept_is_refused(overrides, zips, named):
    with pytest.raises(ConfigError, match=named):
        parse_grid(overrides, zips)


@settings(max_examples=200)
@given(st.text(st.sampled_from("\\'\"${}a =,[(~"), max_size=8))
@example("it's")
@example("a${b}c")
def test_quoted_words_mean_just_themselves(text):
    assert value_of(f"hydra.sweep.dir={quoted('/' + text + '/')}") == f"/{text}/"
    assert value_of(f"key={quoted(text + '#3')}") == f"{text}#3"


@pytest.mark.parametrize("condition", ["k=0..1", "k=range(0,2)", "k=choice(0,1)", "k=0,1"])
def test_conditions_are_written_as_sweeps_are(condition):
    assert values_by_key([condition, "other=x"]) == {"k": [0, 1], "other": ["x"]}
    with pytest.raises(ConfigError, match="k is named twice"):
        values_by_key([condition, "k=1"])
