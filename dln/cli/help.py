"""The text of `--help`: every key of the schema and every registered name, read from where they are defined."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import MISSING

from dln.base.registry import Entry, Registry, import_extensions
from dln.config import CONFIGS, ComparativeConfig, Schema, SingleConfig, fields, folder
from dln.errors import ConfigError, suggestion

TOGETHER = {
    "data.conjugate": "data.rotate",
    "data.inputs_basis": "data.inputs",
    "data.whiten": "data.d_active",
    "data.test_samples": "data.train_samples",
    "model.out_dim": "model.in_dim",
    "training.label_noise": "training.replacement",
    "training.batch_seed": "training.model_seed",
    "evaluate_at": "evaluate_every",
    "checkpoint_at": "checkpoint_every",
    "device": "dtype",
    "engine": "dtype",
    "theory_metrics": "theory",
    "branch_at": "reference",
    "aggregate.of": "aggregate.over",
    **{f"aggregate.{name}": "aggregate.keep" for name in ("quantiles", "pairs", "curves")},
}
"""Keys that stand on the line of another."""


def help_text(schema: Schema, argv: Sequence[str]) -> str:
    """Return what `--help` prints for a door; extensions named on the command line are listed too."""
    import_extensions(_extensions(argv[1:]))
    width = min(shutil.get_terminal_size((120, 50)).columns, 140)
    door = Path(argv[0]).name
    door = f"python {door}" if door.endswith(".py") else door
    names = ", ".join(sorted(p.stem for p in (CONFIGS / folder(schema)).glob("*.yaml")))
    lines = [
        f"{(inspect.getdoc(schema) or '').splitlines()[0]}",
        "",
        f"  {door} [-cn=NAME] [KEY=VALUE ...]          one experiment; NAME: {names}",
        f"  {door} -m KEY=VALUE,VALUE ...              one for each combination of values",
        f"  {door} --cfg job                           print the config instead; --hydra-help: more options",
        "",
        *_keys(schema, width),
        *_registered(schema, width),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _keys(schema: Schema, width: int) -> Iterator[str]:
    comparative = schema is ComparativeConfig
    if comparative:
        yield "Change shared.KEY for both models; model_a.KEY or training_b.KEY ... for one (they refer to shared):"
    rows: dict[str, tuple[str, str]] = {}
    for key, item in fields(schema):
        if comparative and key.startswith(("model_a.", "model_b.", "training_a.", "training_b.")):
            continue
        meta = item.metadata
        choices = f" [{' | '.join(meta['choices'])}]" if meta["choices"] and len(meta["choices"]) > 1 else ""
        told = meta["help"] + choices
        beside = re.sub(r"_params$", "", re.sub(r"_b$", "_a", key))  # a name and its parameters, lane a and b
        shared = "shared." if key.startswith("shared.") else ""
        if (first := TOGETHER.get(key.removeprefix(shared))) is not None:
            beside = shared + first
        if beside != key and beside in rows:
            shown, meaning = rows[beside]
            more = f", and {told}" if key.endswith("_params") else f"; {told}" if first is not None else ""
            rows[beside] = f"{shown}, {key.rpartition('.')[2]}={_default(item)}", meaning + more
        else:
            rows[key] = f"{key}={_default(item)}", told
    for shown, meaning in rows.values():
        yield _cut(f"  {shown:<44} {meaning}", width)


def _registered(schema: Schema, width: int) -> Iterator[str]:
    """Yield what is registered: the names of ours, which `python -m dln describe` explains, and all of a user's."""
    yield ""
    yield "Names, explained by: python -m dln describe [NAME ...]"
    for title, registry in registries(schema):
        ours = [entry.name for entry in registry if entry.function.__module__.startswith("dln.")]
        yield from textwrap.wrap(f"{title}: {', '.join(ours)}", width, subsequent_indent="  ", break_on_hyphens=False)
        for entry in registry:
            if entry.name not in ours:
                yield _cut(_explained(entry), width)


def describe(words: Sequence[str]) -> str:
    """Return the parameters, and the first line of the docstring, of some registered names, or of all.

    Raises:
        ConfigError: Nothing is registered under a name.
    """
    found = {title: registry for schema in (SingleConfig, ComparativeConfig) for title, registry in registries(schema)}
    known = [entry.name for registry in found.values() for entry in registry]
    for word in words:
        if word not in known:
            raise ConfigError(f"nothing is called {word!r}; {suggestion(word, known)}")
    lines, told = [], []
    for title, registry in found.items():
        entries = [entry for entry in registry if not words or entry.name in words]
        if entries and registry not in told:
            lines += [title, *map(_explained, entries), ""]
            told.append(registry)
    return "\n".join(lines).rstrip()


def _explained(entry: Entry) -> str:
    told = [f" [{entry.marks[mark]}]" for mark in ("cost", "source") if mark in entry.marks]
    return f"  {f'{entry.name}({entry.usage})':<44} {entry.description}{''.join(told)}"


def registries(schema: Schema) -> list[tuple[str, Registry]]:
    """Return every registry a config of this schema names entries of, with a heading that says where."""
    from dln.callbacks import CALLBACKS
    from dln.ingredients.initialisations import INITS
    from dln.ingredients.inputs import INPUTS
    from dln.ingredients.teachers import MATRICES
    from dln.measure.events import EVENTS
    from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS
    from dln.theory import THEORIES
    from dln.trackers.build import TRACKERS

    if schema is ComparativeConfig:
        return [
            ("Metrics of each: model_metrics=[NAME]", MODEL_METRICS),
            ("Of the pair: comparative_metrics=[NAME]", COMPARATIVE_METRICS),
            ("Events: events=[NAME]", EVENTS),
            ("Callbacks: callbacks_a=[{name: NAME}]", CALLBACKS),
            ("Teachers: data.params.matrix=NAME", MATRICES),
            ("Inputs: data.inputs=NAME", INPUTS),
            ("Theories: theory=[NAME]", THEORIES),
            ("Initialisations: shared.model.init=NAME", INITS),
            ("Trackers: tracker=NAME", TRACKERS),
        ]
    return [
        ("Metrics: metrics=[NAME, {name: NAME, params: {...}, label: COLUMN}]", MODEL_METRICS),
        ("Events: events=[NAME]", EVENTS),
        ("Callbacks: callbacks=[{name: NAME, params: {...}}]", CALLBACKS),
        ("Teachers: data.params.matrix=NAME", MATRICES),
        ("Inputs: data.inputs=NAME", INPUTS),
        ("Theories: theory=[NAME, {name: NAME, params: {...}}]", THEORIES),
        ("Initialisations: model.init=NAME", INITS),
        ("Trackers: tracker=NAME", TRACKERS),
    ]


def markdown_table(registry: Registry) -> str:
    """Return a registry as the table that stands in the book, which `docs/make_tables.py` puts there.

    Metrics have two more columns, the shape of a value and its cost, theories one; there are sources if any has one.
    """
    measured, sourced = (any(mark in entry.marks for entry in registry) for mark in ("cost", "source"))
    shaped = any(map(_shape, registry)) and measured
    beside = [*(["shape"] if shaped else []), *(["cost"] if measured else [])]
    head = ["name", "parameters", *beside, "meaning", *(["source"] if sourced else [])]
    rows = []
    for entry in registry:
        told = {"shape": _shape(entry), "cost": entry.marks.get("cost", "")}
        cost = [told[column] for column in beside]
        source = [entry.marks.get("source", "")] if sourced else []
        meaning = entry.description.replace("|", "\\|")
        rows.append(" | ".join([f"| `{entry.name}`", _code(entry.usage), *cost, meaning, *source]) + " |")
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows])


def key_table(schema: Schema) -> str:
    """Return all keys of a schema as a table for the book; those of model b are left out, which are as model a's.

    "together" says whether runs that differ in the key can be trained in one ensemble.
    """
    rows = []
    for key, item in fields(schema):
        if key.partition(".")[0].endswith("_b"):
            continue
        meta = item.metadata
        told = [f"one of {', '.join(meta['choices'])}"] if meta["choices"] and len(meta["choices"]) > 1 else []
        names = {"least": "at least", "above": "above", "most": "at most"}
        told += [f"{word} {meta[bound]:.12g}" for bound, word in names.items() if meta.get(bound) is not None]
        meaning = "; ".join([meta["help"].replace(" (see below)", "").replace("|", "\\|"), *told])
        rows.append(f"| `{key}` | `{_default(item)}` | {meaning} | {'yes' if meta['batchable'] else ''} |")
    return "\n".join(["| key | default | meaning | together |", "|---" * 4 + "|", *rows])


def _shape(entry: Entry) -> str:
    """Return the shape of a metric's value, without leading dimensions, as its return annotation says.

    Several annotations, or those of a dict's values, are separated by "or"; a number is written "1".
    """
    annotation = str(inspect.signature(entry.function).return_annotation)
    shapes = [shape.replace("*R", "").strip() for shape in re.findall(r"[\"']([^\"']*)[\"']", annotation)]
    told = " or ".join("1" if not shape else f"[{shape.replace(' ', ', ')}]" for shape in shapes)
    return f"{told} each" if annotation.startswith("dict") else told


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _default(item: dataclasses.Field) -> str:
    value: Any = item.default if item.default is not dataclasses.MISSING else item.default_factory()  # type: ignore[misc]
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if value is None or value is MISSING:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _extensions(overrides: Sequence[str]) -> list[str]:
    given = [o for o in overrides if o.lstrip("+").startswith("extensions=")]
    return list(OverridesParser.create().parse_override(given[-1]).value()) if given else []  # type: ignore[arg-type]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
