"""Whatever is wrong with a config, the user gets one short message that names the key and the nearest valid choice."""

import copy
import functools
import sys

import numpy as np
import pytest
from hydra.types import RunMode
from omegaconf import DictConfig

from dln.composing.compose import apply_override, resolve
from dln.composing.hydra_internals import create_config_search_path
from dln.composing.loader import load_config, loader_class
from dln.config import CONFIGS, ComparativeConfig, SingleConfig, folder
from dln.errors import ConfigError, DlnError
from dln.factory import check_names

S, C = SingleConfig, ComparativeConfig
SHORT = 600
"""Characters; the longest messages list every optimizer or loss of torch."""

SWITCH = "callbacks=[{{name: switch_batch_size, params: {{{}}}}}]"

CALLBACK = "callbacks=[{{name: {}, params: {{{}}}}}]"

ON_THE_COMMAND_LINE = [
    # key that does not exist
    (S, "training.lrr=0.1", "'training.lrr'", "'training.lr'"),
    (S, "trainng.lr=0.1", "'trainng.lr'", "'training.lr'"),
    (S, "lr=0.1", "'lr'", "'training.lr'"),
    (S, "+training.momentum=0.9", "'training.momentum'", "training"),
    (S, "++training.lrr=0.9", "'training.lrr'", "'training.lr'"),
    (S, "+max_step=5", "'max_step'", "'max_steps'"),
    (C, "training_a.lrr=1", "'training_a.lrr'", "'training_a.lr'"),
    (S, "training={lrr: 1}", "'training.lrr'", "'training.lr'"),
    (C, "training.lr=1", "'training.lr'", "'shared.training.lr'"),
    (C, "shared.lr=1", "'shared.lr'", "'shared.training.lr'"),
    (C, "+shared.model.hiden_dim=1", "'shared.model.hiden_dim'", "'shared.model.hidden_dim'"),
    (C, "metrics=[weight_norm]", "'metrics'", "'model_metrics'"),
    (C, "callbacks=[]", "'callbacks'", "'shared.callbacks'"),
    # wrong type
    (S, "training.lr=fast", "training.lr", "'fast'"),
    (S, "model.init_params=[]", "model.init_params", "a mapping"),
    (S, "training.lr=null", "training.lr", "not Optional"),
    (S, "model.in_dim=2.5", "model.in_dim", "'2.5'"),
    (S, "model.in_dim=wide", "model.in_dim", "'wide'"),
    (S, "model.bias=perhaps", "model.bias", "'perhaps'"),
    (S, "data.online=perhaps", "data.online", "'perhaps'"),
    (S, "max_steps=many", "max_steps", "'many'"),
    (S, "training.model_seed=1.5", "training.model_seed", "'1.5'"),
    (S, "training=3", "training", "3"),
    (S, "model=null", "model", "not Optional"),
    (S, "data.params=3", "data.params", "int"),
    (S, "data.inputs_params=3", "data.inputs_params", "int"),
    (S, "data.whiten=perhaps", "data.whiten", "'perhaps'"),
    (S, "data.d_active=few", "data.d_active", "'few'"),
    (S, "callbacks=switch_batch_size", "callbacks", "list"),
    (S, "extensions=my_lab", "extensions", "list"),
    # lines that are no overrides
    (S, "training.lr=0.1,0.2", "training.lr", "add -m to run each"),
    (S, "training.lr", "training.lr", "override"),
    (S, "=3", "=3", "override"),
]
"""Keys, and what Hydra itself refuses: each is composed, as by a door."""

VALUES = [
    # keys inside free mappings: a callback's, metric's, teacher's, optimizer's, criterion's parameters
    (S, SWITCH.format("stp: 1, batch_size: 2"), "callbacks[0].params.stp", "'step'"),
    (S, SWITCH.format("step: 1"), "callbacks[0].params.batch_size", "step, batch_size"),
    (S, "callbacks=[{name: lr_decay, parms: {}}]", "parms'", "'params'"),
    (S, "callbacks=[{params: {step: 1}}]", "callbacks[0].name", "missing"),
    (S, "metrics=[{name: singular_values, params: {tpo: 2}}]", "metrics[0].params.tpo", "'top'"),
    (S, "metrics=[{name: singular_values, parms: {top: 2}}]", "metrics[0]", "'params'"),
    (C, "model_metrics=[{name: singular_values, params: {tpo: 2}}]", "model_metrics[0].params.tpo", "'top'"),
    (C, "comparative_metrics=[{name: param_distance, params: {p: 1}}]", "comparative_metrics[0].params.p", "param"),
    (S, "data.params.scael=3", "data.params.scael", "'scale'"),
    (S, "data.params={matrix: low_rank, rnk: 3}", "data.params.rnk", "'rank'"),
    (S, "data.inputs=power_law data.inputs_params.aplha=3", "data.inputs_params.aplha", "'alpha'"),
    (S, "data.inputs_params.alpha=3", "data.inputs_params.alpha", "'gaussian'"),
    (S, "data.inputs=spectrum", "data.inputs_params.values", "needs"),
    (S, "data.params.matrix=singular_values", "data.params.values", "at most 5"),
    (S, "data.params.matrix=file", "data.params.path", "missing"),
    (S, "training.optimizer_params.momentm=0.9", "training.optimizer_params.momentm", "'momentum'"),
    (S, "training.optimizer_params={lr: 1}", "training.optimizer_params.lr", "training.lr"),
    (S, "training.criterion_params={redction: sum}", "training.criterion_params.redction", "'reduction'"),
    (S, "model.init_params.scael=3 model.init=orthogonal", "model.init_params.scael", "'scale'"),
    (C, "model_b={init: balanced, init_params: {nrm: 1}}", "model_b.init_params.nrm", "'norm'"),
    # wrong type where any key or value may stand
    (S, "model.hidden_dim=wide", "model.hidden_dim", "'wide'"),
    (S, "model.hidden_dim=5.5", "model.hidden_dim", "5.5"),
    (S, "data.params.scale=big", "data.params.scale", "'big'"),
    (S, "data.params={matrix: low_rank, rank: 2.5}", "data.params.rank", "2.5"),
    (S, "data.params={matrix: diagonal, spectrum: [1, a]}", "spectrum", "a"),
    (S, "data.inputs=power_law data.inputs_params.alpha=steep", "data.inputs_params.alpha", "'steep'"),
    (S, "model.init_params=3", "model.init_params", "mapping"),
    (S, "model={init: target_norm, init_params: {norm: big}}", "model.init_params.norm", "'big'"),
    (S, "training.optimizer_params=3", "training.optimizer_params", "mapping"),
    (S, "training.optimizer_params={momentum: big}", "training.optimizer_params", "'big'"),
    (S, "metrics=3", "metrics", "list"),
    (S, "metrics=[3]", "metrics[0]", "3"),
    (S, "metrics=[{name: singular_values, params: 3}]", "metrics[0].params", "3"),
    (S, "metrics=[{name: singular_values, params: {top: two}}]", "metrics[0].params.top", "'two'"),
    (S, "metrics=[{name: weight_norm, label: 3}]", "metrics[0].label", "3"),
    (S, "callbacks=[switch_batch_size]", "callbacks[0]", "switch_batch_size"),
    (S, SWITCH.format("step: one, batch_size: 2"), "callbacks[0].params", "'one'"),
    # names that nobody registered
    (S, "metrics=[weight_nrom]", "metrics[0]", "'weight_norm'"),
    (C, "model_metrics=[weight_nrom]", "model_metrics[0]", "'weight_norm'"),
    (C, "comparative_metrics=[param_distanse]", "comparative_metrics[0]", "'param_distance'"),
    (S, "callbacks=[{name: switch_batch_sise}]", "callbacks[0]", "'switch_batch_size'"),
    (C, "callbacks_b=[{name: lr_deacy}]", "callbacks_b[0]", "'lr_decay'"),
    (S, "data.params.matrix=diagnal", "data.params.matrix", "'diagonal'"),
    (S, "data.inputs=gausian", "data.inputs", "'gaussian'"),
    (S, "data.path=nowhere.npz", "data.path", "'nowhere.npz'"),
    (S, "data.params={matrix: file, path: nowhere.npy}", "data.params.path", "'nowhere.npy'"),
    (S, "model.init=orthogonl", "model.init", "'orthogonal'"),
    (C, "model_b.init=balancd", "model_b.init", "'balanced'"),
    (S, "data.name=linear_techer", "data.name", "'linear_teacher'"),
    (S, "training.optimizer=Admw", "training.optimizer", "'AdamW'"),
    (S, "training.optimizer=sgd", "training.optimizer", "mean 'SGD'"),
    (C, "training_b.optimizer=adamw", "training_b.optimizer", "mean 'AdamW'"),
    (S, "training.criterion=MSELos", "training.criterion", "'MSELoss'"),
    (S, "training.criterion=mse", "training.criterion", "mean 'MSELoss'"),
    (S, "engine=autograb", "engine", "'autograd'"),
    (S, "dtype=float46", "dtype", "'float64'"),
    (S, "device=cuda:99", "device", "cuda:99"),
    (S, "extensions=[no_such_module]", "extensions", "'no_such_module'"),
    # interpolations that lead nowhere
    (S, "training.lr=${training.lrr}", "training.lr: ${training.lrr}", "'training.lr'"),
    (S, "training.lr=${trainig.lr}", "training.lr: ${trainig.lr}", "'training.lr'"),
    (C, "training_a.lr=${shared.lr}", "training_a.lr: ${shared.lr}", "'shared.training.lr'"),
    (S, "training.lr=${training.lr}", "training.lr", "ecursive"),
    (S, "training.lr=${oc.env:NO_SUCH_VARIABLE}", "training.lr", "NO_SUCH_VARIABLE"),
    (S, "training.lr=${nope:3}", "training.lr", "nope"),
    # values out of bounds
    (S, "model.in_dim=0", "model.in_dim", "at least 1"),
    (S, "model.out_dim=-1", "model.out_dim", "at least 1"),
    (S, "model.num_hidden=-1", "model.num_hidden", "at least 0"),
    (S, "model.hidden_dim=0", "model.hidden_dim", "positive"),
    (S, "model.hidden_dim=[4,0,4]", "model.hidden_dim", "positive"),
    (S, "max_steps=0", "max_steps", "at least 1"),
    (S, "max_steps=-5", "max_steps", "at least 1"),
    (S, "evaluate_every=0", "evaluate_every", "at least 1"),
    (S, "checkpoint_every=0", "checkpoint_every", "at least 1"),
    (S, "evaluate_at=7", "evaluate_at", "a list of steps, {log: NUMBER} or {linear: NUMBER}"),
    (S, "evaluate_at={lag: 7}", "evaluate_at", "a list of steps, {log: NUMBER} or {linear: NUMBER}"),
    (S, "evaluate_at={log: few}", "evaluate_at.log", "2 or more"),
    (S, "evaluate_at=[1,-2]", "evaluate_at", "-2"),
    (S, "evaluate_at=[1,ten]", "evaluate_at", "'ten'"),
    (S, "evaluate_at=[5,2501,9999]", "evaluate_at", "max_steps, 2500: 2501, 9999;"),
    (C, "checkpoint_at=[2501] max_steps=2500", "checkpoint_at", "2501"),
    (S, CALLBACK.format("lr_cosine", "steps: 0"), "callbacks[0].params", "steps"),
    (S, CALLBACK.format("lr_cosine", "stps: 10"), "callbacks[0].params.stps", "'steps'"),
    (S, CALLBACK.format("lr_warmup", "steps: 10, initial: -1"), "callbacks[0].params", "initial"),
    (S, CALLBACK.format("lr_cyclic", "period: 10"), "callbacks[0].params.max_factor", "period, max_factor"),
    (S, CALLBACK.format("batch_growth", "factor: 2, interval: 5, largest: 101"), "callbacks[0].params", "100"),
    (S, CALLBACK.format("weight_noise", "std: -1"), "callbacks[0].params", "std"),
    (S, CALLBACK.format("kick", "step: 5, size: 1, direction: up"), "callbacks[0].params.direction", "'gradient'"),
    (S, CALLBACK.format("stop_at_plateau", "patience: 5, tolerance: 1, interval: 3"), "callbacks[0]", "patience"),
    (S, CALLBACK.format("stop_after", "seconds: 0"), "callbacks[0].params", "seconds"),
    (S, "training.lr=0", "training.lr", "greater than 0"),
    (S, "training.lr=-0.1", "training.lr", "greater than 0"),
    (S, "training.lr=nan", "training.lr", "nan"),
    (S, "training.lr=inf", "training.lr", "inf"),
    (S, "model.gamma=nan", "model.gamma", "nan"),
    (S, "model.alpha=0", "model.alpha", "greater than 0"),
    (S, "model.alpha=nan", "model.alpha", "nan"),
    (S, "model.alpha=1e300", "model.alpha", "float32"),
    (S, "model={init: target_norm, init_params: {norm: nan}}", "model.init_params.norm", "finite"),
    (S, "data.params.scale=nan", "data.params", "nan"),
    (S, "data.noise_std=-1", "data.noise_std", "at least 0"),
    (S, "data.train_samples=0", "data.train_samples", "at least 1"),
    (S, "data.test_samples=0", "data.test_samples", "at least 1"),
    (S, "training.batch_size=0", "training.batch_size", "at least 1"),
    (S, "training.batch_size=-2", "training.batch_size", "at least 1"),
    (S, "training.model_seed=-1", "training.model_seed", "at least 0"),
    (S, "training.batch_seed=-1", "training.batch_seed", "at least 0"),
    (S, "data.data_seed=-1", "data.data_seed", "at least 0"),
    (C, "shared.training.lr=0", "shared.training.lr", "greater than 0"),
    (S, SWITCH.format("step: 5, batch_size: 0"), "callbacks[0].params", "batch_size"),
    (S, SWITCH.format("step: -5, batch_size: 1"), "callbacks[0].params", "step"),
    (S, "callbacks=[{name: lr_decay, params: {factor: -1, interval: 5}}]", "callbacks[0].params", "factor"),
    (S, "data.params={matrix: low_rank, rank: 9}", "data.params.rank", "5"),
    (S, "data.params={matrix: power_law_topk, k: 6}", "data.params.k", "5"),
    (S, "data.params={matrix: singular_values, values: [1, -2]}", "data.params.values", "negative"),
    (S, "data.params={matrix: singular_values, values: [1, 1, 1, 1, 1, 1]}", "data.params.values", "at most 5"),
    (S, "data.d_active=0", "data.d_active", "at least 1"),
    (
        S,
        "data={inputs: spectrum, inputs_params: {values: [1, 1, 1, 1, -1]}}",
        "data.inputs_params.values",
        "at least 0",
    ),
    (S, "training.optimizer_params={momentum: -1}", "training.optimizer_params", "momentum"),
    # values that do not fit each other
    (S, "data.online=true", "training.batch_size", "data.online"),
    (S, "data.d_active=6", "data.d_active", "model.in_dim=5"),
    (S, "data={inputs: spectrum, inputs_params: {values: [1, 1]}}", "data.inputs_params.values", "5 numbers"),
    (S, "data.whiten=true data.train_samples=4", "data.whiten", "data.train_samples=5"),
    (C, "data.whiten=true data.train_samples=1 data.d_active=2", "data.whiten", "data.train_samples=2"),
    (S, "data.whiten=true data.online=true training.batch_size=5", "data.whiten", "data.online=false"),
    (S, "data.path=x.npz data.online=true training.batch_size=5", "data.online", "set it to false"),
    (S, "data.path=x.npz data.whiten=true", "data.whiten", "set it to false"),
    (S, "data.path=x.npz data.d_active=2", "data.d_active", "set it to null"),
    (S, "data.path=x.npz data.inputs_basis=teacher", "data.inputs_basis", "set it to coordinates"),
    (S, "data.inputs_basis=techer", "data.inputs_basis", "'teacher'"),
    (S, "data.conjugate=true model.out_dim=4", "data.conjugate", "model.in_dim == model.out_dim, not 5 and 4"),
    (S, "data.conjugate=true data.rotate=true", "data.conjugate", "data.rotate=false"),
    (S, "data.online=true training.batch_size=5 training.replacement=true", "training.replacement", "to false"),
    (
        C,
        "data.online=true shared.training.batch_size=5 shared.training.label_noise=1",
        "training_a.label_noise",
        "data.noise_std",
    ),
    (S, "model.alpha=[1,2]", "model.alpha", "4 layers"),
    (S, "model.alpha=[1,2,0,1]", "model.alpha[2]", "greater than 0"),
    (S, "model.alpha=large", "model.alpha", "a number"),
    (S, "training.lr_factors=[1,1,-1,1]", "training.lr_factors[2]", "at least 0"),
    (C, "training_b.lr_factors=[1,1,1]", "training_b.lr_factors", "4 layers"),
    (S, "training.lr_factors=[0,0,0,0]", "training.lr_factors", "leave one"),
    (S, "training.lr_factors=[1,1,1,2] metrics=[stability]", "stability", "lr_factors=null"),
    (S, "training.replacement=true", "training.replacement", "set training.batch_size"),
    (S, "training.label_noise=-1", "training.label_noise", "at least 0"),
    (S, "training.batch_size=101", "training.batch_size", "100"),
    (C, "training_b.batch_size=101", "training_b.batch_size", "100"),
    (S, "model.hidden_dim=[3,4]", "model.hidden_dim", "model.num_hidden=2"),
    (C, "model_a.hidden_dim=[3,4]", "model_a.hidden_dim", "model_a.num_hidden=2"),
    (S, "model.in_dim=3 data.params.matrix=identity", "data.params.matrix", "'diagonal'"),
    (C, "model_b.in_dim=3", "model_b.in_dim", "model_a.in_dim"),
    (C, "model_a.out_dim=3", "model_b.out_dim", "model_a.out_dim"),
    (S, "metrics=[weight_norm,weight_norm]", "metrics", "label"),
    (S, "metrics=[{name: weight_norm, label: step}]", "metrics", "label"),
    (S, "training.criterion_params={reduction: none}", "training.criterion_params.reduction", "'mean'"),
    (S, "training.criterion_params={reduction: men}", "training.criterion_params", "men"),
    (S, "training.criterion=NLLLoss", "training.criterion", "NLLLoss"),
    (S, "training.criterion=BCELoss", "training.criterion", "BCELoss"),  # outputs are not between 0 and 1
    (C, "model_a.hidden_dim=3 comparative_metrics=[param_distance]", "param_distance", "end_to_end_distance"),
    (S, "metrics=[balancedness] model.num_hidden=0", "balancedness", "model.num_hidden"),
    (S, "model={init: lambda_balanced, init_params: {lam: 1}}", "model.init=lambda_balanced", "num_hidden=1"),
    (S, "model={init: aligned, hidden_dim: 3}", "model.init=aligned", "hidden_dim"),
    (S, "model.weights=nowhere.npz model.init=identity", "model.weights", "model.init=identity"),
    (S, "model.weights=nowhere.npz", "model.weights", "'nowhere.npz'"),
    (C, "model_a.weights=nowhere.npz", "model_a.weights", "'nowhere.npz'"),
]
"""Overrides that can be composed: what they come to is refused, by whatever way they came into the config."""

IN_YAML = [
    (S, "training: {lrr: 0.1}", "'training.lrr'", "'training.lr'"),
    (S, "trainng: {lr: 0.1}", "'trainng'", "training"),
    (S, "max_step: 5", "'max_step'", "'max_steps'"),
    (S, "training: {lr: fast}", "training.lr", "'fast'"),
    (S, "training: 3", "training", "3"),
    (S, "training:", "training", "not Optional"),
    (S, "metrics: 3", "metrics", "list"),
    (S, "metrics: [weight_nrom]", "metrics[0]", "'weight_norm'"),
    (S, "metrics: [{name: singular_values, params: {tpo: 1}}]", "metrics[0].params.tpo", "'top'"),
    (S, "callbacks: {name: lr_decay}", "callbacks", "list"),
    (S, "callbacks: [{nme: lr_decay}]", "callbacks", "'name'"),
    (S, "callbacks: [{name: lr_decay, params: {factr: 1}}]", "callbacks[0].params.factr", "'factor'"),
    (S, "data: {params: {matrix: identity, scael: 3}}", "data.params.scael", "'scale'"),
    (S, "training: {lr: '${training.lrr}'}", "training.lr: ${training.lrr}", "'training.lr'"),
    (S, "training: {optimizer_params: {momentum: '${training.mu}'}}", "training.optimizer_params", "${training.mu}"),
    (S, "callbacks: [{name: lr_decay, params: {factor: '${nope}', interval: 3}}]", "callbacks", "${nope}"),
    (S, "metrics: ['${nope}']", "metrics", "${nope}"),
    (S, "max_steps: 0", "max_steps", "at least 1"),
    (C, "shared: {lr: 3}", "'shared.lr'", "'shared.training.lr'"),
    (C, "training_a: {lr: '${shared.lr}'}", "training_a.lr: ${shared.lr}", "'shared.training.lr'"),
    (C, "training_a: '${shared.trainin}'", "training_a", "mapping"),
    (C, "model_a: {in_dim: 3}", "model_b.in_dim", "model_a.in_dim"),
    (C, "training: {lr: 1}", "'training'", "training_"),
]


def names(cases: list[tuple]) -> list[str]:
    return [f"{'single' if schema is S else 'comparative'} {text}" for schema, text, *_ in cases]


def assert_helpful(message: str, *fragments: str) -> None:
    assert "\n" not in message
    assert len(message) <= SHORT
    for fragment in fragments:
        assert fragment in message


def split(overrides: str) -> list[str]:
    return overrides.split(" ") if "[{" not in overrides and "={" not in overrides else [overrides]


@functools.cache
def composed(schema: type) -> DictConfig:
    """The default config as Hydra composes it; composing is slow."""
    loader = loader_class(schema)(create_config_search_path(str(CONFIGS / folder(schema))))
    return loader.load_configuration("default", [], RunMode.RUN)


@pytest.mark.sampled
@pytest.mark.parametrize(("schema", "overrides", "key", "remedy"), ON_THE_COMMAND_LINE, ids=names(ON_THE_COMMAND_LINE))
def test_on_the_command_line(schema, overrides, key, remedy):
    with pytest.raises(ConfigError) as caught:
        check_names(load_config(split(overrides), schema))
    assert_helpful(str(caught.value), key, remedy)


@pytest.mark.sampled
@pytest.mark.parametrize(("schema", "overrides", "key", "remedy"), VALUES, ids=names(VALUES))
def test_of_a_value(schema, overrides, key, remedy):
    config = copy.deepcopy(composed(schema))
    for override in split(overrides):
        apply_override(config, override, schema)
    with pytest.raises(ConfigError) as caught:
        check_names(resolve(config, schema))
    assert_helpful(str(caught.value), key, remedy)


@pytest.mark.parametrize(
    ("schema", "overrides"), [(S, VALUES[0][1]), (S, "model.init=orthogonl"), (C, "model_b.in_dim=3")]
)
def test_a_value_is_told_in_the_same_words_however_it_came(schema, overrides):
    config = copy.deepcopy(composed(schema))
    apply_override(config, overrides, schema)
    told = []
    for come in (lambda: resolve(config, schema), lambda: load_config([overrides], schema)):
        with pytest.raises(ConfigError) as caught:
            check_names(come())
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.sampled
@pytest.mark.parametrize(("schema", "text", "key", "remedy"), IN_YAML, ids=names(IN_YAML))
def test_in_a_yaml_file_of_the_users_own(schema, text, key, remedy, tmp_path, compose_file):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_names(compose_file(tmp_path / "own.yaml", schema))
    assert_helpful(str(caught.value), key, remedy)


@pytest.mark.parametrize("schema", [S, C])
def test_a_yaml_file_with_a_defaults_list_is_checked_too(schema, tmp_path, compose_file):
    (tmp_path / "base.yaml").write_text("max_steps: 5", encoding="utf-8")
    text = "defaults: [base, _self_]\nevaluate_evry: 2"
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        compose_file(tmp_path / "own.yaml", schema)
    assert_helpful(str(caught.value), "'evaluate_evry'", "'evaluate_every'")


@pytest.mark.parametrize(
    ("schema", "name", "nearest"),
    [(S, "diagonal_techer", "'diagonal_teacher'"), (S, "defualt", "'default'"), (C, "rich_lasy", "'rich_lazy'")],
)
def test_unknown_config_name(schema, name, nearest):
    with pytest.raises(ConfigError) as caught:
        load_config([], schema, name)
    assert_helpful(str(caught.value), f"'{name}'", nearest)


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({"W1": np.ones((4, 5)), "W2": np.ones((5, 4))}, ["model.weights", "shape"]),  # fewer layers than the config
        ({"weights": np.ones((4, 5))}, ["model.weights", "W1"]),
        ({"W1": np.ones((4, 5)), "W3": np.ones((5, 4))}, ["model.weights", "W2"]),
        ({"W1": np.ones((4, 5)), "W2": np.ones((5, 3))}, ["model.weights", "W2"]),
        ({"W1": np.full((5, 5), np.nan)}, ["model.weights", "NaN"]),
        (None, ["model.weights", "own.npz", "not an .npy or .npz file"]),
    ],
)
def test_a_checkpoint_that_does_not_fit(arrays, fragments, tmp_path):
    path = tmp_path / "own.npz"
    if arrays is None:
        path.write_text("not an archive", encoding="utf-8")
    else:
        np.savez(path, **arrays)
    hidden = 0 if arrays is not None and len(arrays) == 1 and "W1" in arrays else 3
    with pytest.raises(ConfigError) as caught:
        check_names(resolve({"model": {"weights": str(path), "num_hidden": hidden}}, S))
    assert_helpful(str(caught.value), *fragments)


FITTING = {"train_inputs": np.ones((9, 5)), "train_targets": np.ones((9, 5))}


@pytest.mark.parametrize("schema", [S, C])
@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({**FITTING, "train_inputs": np.ones((9, 4))}, ["data.path", "4 inputs", "model.in_dim=5"]),
        ({**FITTING, "train_targets": np.ones((9, 1))}, ["data.path", "1 outputs", "model.out_dim=5"]),
        ({**FITTING, "train_targets": np.ones((8, 5))}, ["data.path", "9 train_inputs but 8 train_targets"]),
        ({**FITTING, "train_targets": np.ones((9, 5, 1))}, ["data.path", "train_targets must be [samples, dimension]"]),
        ({**FITTING, "train_inputs": np.full((9, 5), np.nan)}, ["data.path", "train_inputs contains NaN"]),
        ({**FITTING, "train_inputs": np.full((9, 5), "a")}, ["data.path", "train_inputs is of type", "real numbers"]),
        ({**FITTING, "test_inputs": np.ones((9, 5))}, ["data.path", "test_targets is missing"]),
        ({"train_inputs": np.ones((9, 5))}, ["data.path", "train_targets is missing"]),
        ({"train_targets": np.ones((9, 5))}, ["data.path", "no array train_inputs"]),
        ({"x": np.ones((9, 5))}, ["data.path", "no array train_inputs"]),
        (None, ["data.path", "own.npz", "not an .npy or .npz file"]),
    ],
)
def test_data_of_ones_own_that_do_not_fit(schema, arrays, fragments, tmp_path):
    path = tmp_path / "own.npz"
    if arrays is None:
        path.write_text("not an archive", encoding="utf-8")
    else:
        np.savez(path, **arrays)
    with pytest.raises(ConfigError) as caught:
        check_names(resolve({"data": {"path": str(path)}}, schema))
    assert_helpful(str(caught.value), *fragments)


def test_an_extension_that_cannot_be_imported_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "bad_input_broken.py").write_text("import a_module_that_is_not_there", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DlnError, match=r"'bad_input_broken'.*a_module_that_is_not_there"):
        check_names(resolve({"extensions": ["bad_input_broken"]}, S))
    assert "bad_input_broken" not in sys.modules


# --- what only a process shows: exit status, streams, and that nothing is written -------------------------------------

PROCESSES = {
    "unknown key": ("run.py", ["training.lrr=0.1"], ["'training.lrr'", "'training.lr'"]),
    "unknown key with a plus": ("run.py", ["+training.momentum=0.9"], ["'training.momentum'"]),
    "unknown metric": ("run.py", ["metrics=[weight_nrom]"], ["metrics[0]", "'weight_norm'"]),
    "unknown config": ("run.py", ["-cn=diagonal_techer"], ["'diagonal_techer'", "'diagonal_teacher'"]),
    "own file": ("run.py", ["--config-dir=own", "-cn=mine"], ["'training.lrr'", "'training.lr'"]),
    "unknown launcher": ("run.py", ["-m", "max_steps=3", "hydra/launcher=jobliv"], ["hydra/launcher", "basic"]),
    "values without -m": ("run.py", ["training.lr=0.1,0.2"], ["training.lr=0.1,0.2", "-m"]),
    "dry run without -m": ("run.py", ["dry_run=true"], ["dry_run", "-m"]),
    "no option": ("run.py", ["--max-steps", "3"], ["'--max-steps'", "max_steps=VALUE"]),
    "comparative": ("run_comparative.py", ["training_b.batch_size=1000"], ["training_b.batch_size", "1000"]),
    "comparative teacher": ("run_comparative.py", ["data.params.matrix=diagnal"], ["data.params.matrix", "'diagonal'"]),
    "write through": ("run_comparative.py", ["training_a.optimizer_params.momentum=0.9"], ["training_a", "whole"]),
    "second value of a sweep": ("run.py", ["-m", "training.lr=0.1,-1"], ["training.lr", "-1"]),
    "name in a sweep": ("run.py", ["-m", "max_steps=3", "metrics=[weight_norm],[weight_nrom]"], ["'weight_norm'"]),
    "one cell of a grid": (
        "run.py",
        ["-m", "max_steps=3", "training.batch_size=10,50", "data.train_samples=100,20"],
        ["training.batch_size", "50", "20"],
    ),
    "sweep of a comparison": ("run_comparative.py", ["-m", "shared.training.lr=0.1,fast"], ["training", "'fast'"]),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", PROCESSES)
def test_the_door_refuses_and_writes_nothing(name, door, tmp_path):
    script, argv, fragments = PROCESSES[name]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text("training: {lrr: 0.1}", encoding="utf-8")
    result = door.run(tmp_path, *argv, door=script)
    assert result.status == 2
    assert result.out == ""
    assert result.err.endswith("\n")
    assert_helpful(result.err.removesuffix("\n"), *fragments)
    assert result.created == ["own", "own/mine.yaml"]


@pytest.mark.parametrize("where", ["hydra.run.dir=file/run", "hydra.run.dir=file"])
def test_a_place_that_cannot_be_written_to(where, door, tmp_path):
    (tmp_path / "file").touch()
    result = door.run(tmp_path, "max_steps=3", where)
    assert result.status == 1
    assert_helpful(result.err.removesuffix("\n"), "file")
    assert result.created == ["file"]


def test_full_error_shows_the_trace(door, tmp_path):
    result = door.run(tmp_path, "training.lrr=0.1", HYDRA_FULL_ERROR="1")
    assert result.status == 2
    assert "Traceback (most recent call last)" in result.err
    assert "composing/loader.py" in result.err
    assert "'training.lr'" in result.err.splitlines()[-1]
    assert result.created == []
