"""What we use of Hydra and OmegaConf that they do not promise to keep: a test of each, run with Hydra 1.3 and 1.4."""

import copy
import re
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf

from dln.composing import hydra_internals as module
from dln.composing import loader as loading
from dln.composing.hydra_internals import (
    add_callback,
    create_config_search_path,
    get_yaml_loader,
    hydra_main,
    replace_config,
    use_loader,
)
from dln.composing.loader import CheckedRepository, SchemaLoader, SingleLoader
from dln.config import CONFIGS, SingleConfig, folder
from dln.errors import ConfigError

pytestmark = pytest.mark.hydra

ROOT = Path(__file__).resolve().parents[2]
SINGLE = str(CONFIGS / folder(SingleConfig))


class Seeing(Callback):
    """Notes what is about to run."""

    def __init__(self):
        self.seen = []

    def on_run_start(self, config, **_):
        self.seen.append(config.max_steps)


@pytest.fixture
def hydra_runs(tmp_path, monkeypatch):
    """f(*argv): what Hydra hands to a function that it runs as `python run.py argv`; a warning is an error."""
    monkeypatch.setattr(module._application, "ConfigLoaderImpl", module._application.ConfigLoaderImpl)
    monkeypatch.setattr(module._application, "Callbacks", module._application.Callbacks)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]

    def runs(*argv):
        handed = []
        monkeypatch.setattr(sys, "argv", ["run.py", *argv, *quiet, f"hydra.run.dir={tmp_path}"])
        hydra_main(config_path=SINGLE, config_name="default")(handed.append)()
        return handed[0]

    return runs


def test_nothing_else_uses_them():
    places = [*(ROOT / "dln").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py"), *ROOT.glob("*.py")]
    using = {path.stem for path in places if re.search(r"hydra\._internal|omegaconf\._", path.read_text("utf-8"))}
    assert using == {"hydra_internals"}


def test_hydra_composes_with_a_loader_of_ours_and_only_once(hydra_runs, monkeypatch):
    """Hydra 1.3 composes a config to learn the mode, and another to run it."""
    composed = []
    compose = SchemaLoader._compose_config_from_defaults_list
    monkeypatch.setattr(
        SchemaLoader,
        "_compose_config_from_defaults_list",
        lambda *args, **kw: composed.append(1) or compose(*args, **kw),
    )
    use_loader(SingleLoader)
    config = hydra_runs("data.params.scale=2", "max_steps=3")  # a key that no YAML mentions
    assert (config.data.params.scale, config.max_steps, "hydra" in config) == (2, 3, False)
    assert composed == [1]


def test_a_callback_of_ours_is_called_which_no_config_names(hydra_runs):
    callback = Seeing()
    add_callback(callback)
    config = hydra_runs("max_steps=4", "hydra.callbacks={}")
    assert callback.seen == [config.max_steps] == [4]


def test_a_config_of_hydras_is_replaced(monkeypatch):
    monkeypatch.setattr(ConfigStore.instance(), "repo", {})
    for value in (1, 2):
        replace_config("group", "name", {"key": value})
    assert ConfigStore.instance().load("group/name.yaml").node == {"key": 2}


def test_the_loader_reads_files_with_a_repository_of_ours(tmp_path):
    """Every file of a search path passes through it: that of a user is checked."""
    (tmp_path / "own.yaml").write_text("max_steps: 7\n", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("max_steps: 7\n  lr: 1\n", encoding="utf-8")
    loader = SingleLoader(create_config_search_path(str(tmp_path)))
    assert isinstance(loader.repository, CheckedRepository)
    assert loader.load_configuration("own", [], RunMode.RUN).max_steps == 7
    with pytest.raises(ConfigError, match=r"bad.yaml, line 2, column 5"):
        loader.load_configuration("bad", [], RunMode.RUN)


def test_yaml_is_read_as_omegaconf_reads_it():
    assert yaml.load("{a: 1e5, b: 2026-01-01}", get_yaml_loader()) == {"a": 1e5, "b": "2026-01-01"}
    with pytest.raises(yaml.constructor.ConstructorError, match="duplicate key"):
        yaml.load("{a: 1, a: 2}", get_yaml_loader())


def test_a_job_of_a_sweep_has_the_directory_that_hydra_gives_it():
    """The names themselves are compared with Hydra's in tests/cli/test_naming.py."""
    setup_globals()  # as a door does
    loader = SingleLoader(create_config_search_path(SINGLE))
    subdir = "hydra.sweep.subdir=${hydra:job.num}_${hydra.job.override_dirname}"
    config = loader.load_configuration("default", [subdir, "max_steps=3"], RunMode.RUN)
    assert module.job_subdir(config, 2, ["max_steps=3", "dtype=float64"]) == "2_dtype=float64,max_steps=3"


def test_a_reference_is_parsed_once_and_resolved_wherever_it_stands():
    parse = module._values.parse
    node = OmegaConf.create({"a": {"x": 1, "y": "${.x}"}, "b": {"x": 2, "y": "${.x}"}})
    before = parse.cache_info().misses
    assert [(node.a.y, node.b.y) for _ in range(2)] == [(1, 2)] * 2
    node.a.x = 3
    assert node.a.y == 3
    assert parse.cache_info().misses - before <= 1


def test_a_file_that_is_changed_is_read_again(tmp_path):
    loader = SingleLoader(create_config_search_path(str(tmp_path)))
    for steps in (5, 6, 7):
        (tmp_path / "own.yaml").write_text(f"max_steps: {steps}\n", encoding="utf-8")
        for _ in range(2):
            assert loader.load_configuration("own", [], RunMode.RUN).max_steps == steps
    (tmp_path / "own.yaml").write_text("max_steps: [\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own.yaml"):
        loader.load_configuration("own", [], RunMode.RUN)


@pytest.fixture
def merged(monkeypatch):
    """One entry for every time that files are merged from now on."""
    calls, merge = [], SchemaLoader._merge
    monkeypatch.setattr(loading, "_merged", {})
    monkeypatch.setattr(SchemaLoader, "_merge", lambda *args: calls.append(1) or merge(*args))
    return calls


def test_files_are_merged_once_and_each_config_has_what_they_say_for_itself(merged):
    composed = []
    for number in (1, 2, 3):
        loader = SingleLoader(create_config_search_path(SINGLE))
        overrides = [f"data.params.scale={number}", f"+data.params.new{number}=1", f"max_steps={number}"]
        composed.append(loader.load_configuration("default", overrides, RunMode.RUN))
        with pytest.raises(HydraException, match="nothing"):  # keys of the schema stay closed
            loader.load_configuration("default", ["model.nothing=1"], RunMode.RUN)
    assert [(c.max_steps, c.data.params.scale, f"new{c.max_steps}" in c.data.params) for c in composed] == [
        (1, 1, True), (2, 2, True), (3, 3, True)
    ]  # fmt: skip
    assert [sum(key.startswith("new") for key in c.data.params) for c in composed] == [1, 1, 1]
    assert merged == [1]


def test_what_a_users_own_code_stores_for_a_file_is_seen_whenever_it_comes(merged, tmp_path, monkeypatch):
    monkeypatch.setattr(ConfigStore.instance(), "repo", copy.deepcopy(ConfigStore.instance().repo))
    (tmp_path / "own.yaml").write_text("max_steps: 7\n", encoding="utf-8")
    loader = SingleLoader(create_config_search_path(str(tmp_path)))
    loader.load_configuration("own", [], RunMode.RUN)
    ConfigStore.instance().store(name="own", node={"max_steps": 1, "engine": "compiled"})
    with warnings.catch_warnings(action="ignore"):  # Hydra's, that this is deprecated
        config = [loader.load_configuration("own", [], RunMode.RUN) for _ in range(2)][1]
        loading._merged.clear()
        fresh = loader.load_configuration("own", [], RunMode.RUN)
    assert config == fresh  # what that says is Hydra's affair: 1.3 takes the engine from there, 1.4 nothing
    assert (config.max_steps, len(merged)) == (7, 4)
