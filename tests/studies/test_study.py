"""Studies as files: what is wrong with one is told before anything runs, and what its scale and words make of it."""

import math

import pytest
import yaml

from dln.errors import ConfigError
from dln.studies.scaling import arranged, overrides_of, scaled_numbers
from dln.studies.study import STUDIES, load_study, names

TABLE = {"over": "training.batch_seed", "of": ["test_loss"], "baseline": {"training.batch_size": "{large}"}}
STUDY = {
    "about": "What is what?",
    "scale": 0.01,
    "scaled": {"seeds": [4, 100], "lr": [0.1, 0.001], "steps": [20, 2000], "large": [50, 80]},
    "sweep": {"training.batch_seed": "range({seeds})", "training.lr": "{lr}", "max_steps": "{steps}"},
    "parts": {"one": {"sweep": {"training.batch_size": "{large},1"}, "aggregate": TABLE}},
    "figures": {"path": {"name": "ratio", "params": {"per": "training.batch_size"}}},
    "sentences": ["departures"],
}


@pytest.fixture
def written(tmp_path):
    """Returns f(changes): the path of the study with some of its entries, by dotted keys, set to others."""

    def write(**changes):
        study = yaml.safe_load(yaml.safe_dump(STUDY, sort_keys=False))
        for key, value in changes.items():
            *sections, last = key.split("__")
            place = study
            for section in sections:
                place = place[int(section) if section.isdecimal() else section]
            place[last] = value
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"abuot": ""}, "unknown key 'abuot'; did you mean 'about'"),
        ({"parts__one__swep": {}}, "unknown key 'parts.one.swep'; did you mean 'sweep'"),
        ({"parts__one__aggregate__ovr": ""}, "unknown key 'parts.one.aggregate.ovr'; did you mean 'over'"),
        ({"parts__one__aggregate": {"of": ["x"]}}, "parts.one.aggregate.over: .* needs this parameter"),
        ({"parts__one__aggregate__confidence": 2}, "confidence must lie between 0 and 1"),
        ({"parts__one__store": "all"}, "parts.one.store: .* takes 'curves' or 'sums' here, not 'all'"),
        ({"parts__one__store": "sums", "parts__one__aggregate__resamples": 500}, "parts.one: a bootstrap draws runs"),
        ({"parts__one": 3}, "parts.one must be a mapping, key: value, not 3"),
        ({"parts": {}}, "parts: a study has at least one"),
        ({"parts": 1}, "parts: .* takes dict.* here, not 1"),
        ({"sentences": []}, "sentences: a study has at least one"),
        ({"sentences": ["departure"]}, r"sentences\[0\].name: unknown sentence 'departure'; did you mean 'departures'"),
        ({"sentences": [{"name": "crossings"}]}, r"sentences\[0\].params.of: .* needs this parameter"),
        ({"sentences": [{"name": "departures", "parts": ["on"]}]}, "departures: unknown part 'on'; did you mean 'one'"),
        ({"figures__path__name": "ratoi"}, "figures.path.name: unknown figure 'ratoi'; did you mean 'ratio'"),
        ({"figures__path__params": {"pr": 1}}, "figures.path.params.pr: figure 'ratio' has no such parameter"),
        ({"figures__path__rows": "model.gama"}, "figures.path.rows: unknown key 'model.gama'; did you mean"),
        ({"scale": 0}, r"scale must lie in \(0, 1\], not be 0"),
        ({"scaled__seeds": [1]}, r"scaled.seeds must be a word and two numbers"),
        ({"scaled__scale": [1, 2]}, r"scaled.scale must be a word and two numbers"),
        ({"extensions": ["no.such.module"]}, "extensions: no module 'no.such.module'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(written, changes, message):
    with pytest.raises(ConfigError, match=message) as told:
        load_study(written(**changes))
    assert "\n" not in str(told.value)
    assert "mine.yaml" in str(told.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["full"], "'full' is no KEY=VALUE"),
        (
            ["scale=0.001"],
            "scale must lie between 0.01 and 1, not be 0.001; for less, set seeds, lr, steps, large, or any key",
        ),
        (["scale=2"], "scale must lie between 0.01 and 1"),
        (["scale=all"], "'scale=all': 'all' is no number above 0"),
        (["seeds=2.5"], "'seeds=2.5': '2.5' is no whole number above 0"),
        (["seeds=-1"], "is no whole number above 0"),
    ],
)
def test_words_that_mean_nothing(written, words, message):
    with pytest.raises(ConfigError, match=message):
        arranged(load_study(written()), words)


def test_a_study_that_is_not_there():
    with pytest.raises(ConfigError, match="no study and no file 'golden_pth'; did you mean 'golden_path'"):
        load_study("golden_pth")


def test_numbers_that_are_not_there(written):
    path = written(parts__one__aggregate__baseline={"training.batch_size": "{lrage}"})
    with pytest.raises(ConfigError, match=r"parts.one.aggregate.baseline: .* 'lrage'; did you mean 'large'"):
        arranged(load_study(path))


def test_scale_moves_numbers_from_the_file_to_the_full_study(written):
    study = load_study(written())
    assert [scaled_numbers(study, scale)["seeds"] for scale in (0.01, 0.1, 1)] == [4, 20, 100]
    for scale in (0.01, 0.03, 0.2, 1):
        numbers = scaled_numbers(study, scale)
        assert math.isclose(numbers["lr"] * numbers["steps"], 2, rel_tol=0.01)  # whole steps
        (part,) = arranged(study, [f"scale={scale}"]).parts.values()
        assert overrides_of(part)[0] == f"training.batch_seed=range({numbers['seeds']})"
        assert part.sweep["training.batch_size"] == f"{numbers['large']},1"
        assert part.aggregate.baseline == {"training.batch_size": numbers["large"]}


def test_words_take_the_place_of_what_the_file_says(written):
    study = load_study(written())
    (part,) = arranged(study, ["seeds=7", "max_steps=3", "model.gamma=1,2", "+hydra.job.name=x"]).parts.values()
    assert part.sweep == {
        "training.batch_seed": "range(7)",
        "training.lr": 0.1,
        "max_steps": "3",
        "training.batch_size": "50,1",
        "model.gamma": "1,2",
        "+hydra.job.name": "x",
    }


def test_keys_that_move_together_are_set_together(written):
    swept = {"model.gamma": "1,2", "max_steps": "5,6", "training.batch_seed": "0..3"}
    by = ["model.gamma", "training.batch_size"]
    study = load_study(written(sweep=swept, zip=["model.gamma", "max_steps"], parts__one__aggregate__by=by))
    for words, zips in (
        ([], [["model.gamma", "max_steps"]]),
        (["max_steps=9"], []),  # for each gamma
        (["model.gamma=1", "max_steps=9"], []),
        (["model.gamma=1,2,3", "max_steps=7,8,9"], [["model.gamma", "max_steps"]]),
    ):
        (part,) = arranged(study, words).parts.values()
        assert part.zip == zips
    with pytest.raises(ConfigError, match=r"model.gamma moves together with max_steps: set that too \(it is 5,6\)"):
        arranged(study, ["model.gamma=1"])


def test_those_of_the_package_can_be_loaded():
    assert {"golden_path", "drift_diffusion", "singular_values", "learning_rates"} <= {*names()}
    for name in names():
        study = load_study(name)
        text = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8")
        assert f"dln study {name}" in text
        assert study.about.endswith("?")
        for scale in (study.scale, 1):
            arranged(study, [f"scale={scale}"])
