"""Errors of Hydra and OmegaConf about a config, reduced to one line: the key, the fault, the nearest valid key."""

import contextlib
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from dln.config import CONFIGS, ComparativeConfig, Schema, fields, folder
from dln.errors import ConfigError, suggestion

EXTRAS = ("joblib", "optuna", "ray", "submitit")
"""Extras of this project that bring plugins of Hydra, whose names begin so."""


@contextlib.contextmanager
def translated(schema: Schema) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise in the block into a ConfigError: the key, and the nearest valid one."""
    try:
        yield
    except MissingConfigException as error:
        raise ConfigError(_missing_config(error, CONFIGS / folder(schema))) from error
    except OverrideParseException as error:
        raise ConfigError(f"cannot read the override {error.override!r}: {_unreadable(error.override)}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_fault(error, schema)) from error
    except OverflowError as error:
        raise ConfigError(f"a number is too large: {str(error).splitlines()[0]}") from error
    except RecursionError:
        raise ConfigError(
            "the config goes on without end: a defaults list or a ${...} that leads back to itself, or too many "
            "brackets inside each other"
        ) from None


def _unreadable(override: str) -> str:
    """Say what is probably wrong with an override that Hydra's grammar does not read.

    >>> _unreadable("foo"), _unreadable("a=[x")
    ('write KEY=VALUE; --help tells all keys', 'a bracket is not closed, or not opened')
    >>> _unreadable("a=1,"), _unreadable("a='x")[:33]
    ('a value is missing behind the last comma', 'a quotation mark is not closed; q')
    """
    value = override.partition("=")[2]
    if "=" not in override:
        return "write KEY=VALUE; --help tells all keys"
    if value.count("'") % 2 or value.count('"') % 2:
        return "a quotation mark is not closed; quote words that hold one by the other kind"
    if any(value.count(opened) != value.count(closed) for opened, closed in ("[]", "{}", "()")):
        return "a bracket is not closed, or not opened"
    if value.rstrip().endswith(","):
        return "a value is missing behind the last comma"
    return """a value that holds more than words and numbers is quoted twice, "KEY='VALUE'": once is for the shell"""


def _fault(error: Exception, schema: Schema) -> str:
    cause = error.__cause__ or error.__context__ if isinstance(error, ConfigCompositionException) else error
    text = str(error).strip() or str(cause)
    override = re.search(r"(?:Could not override '|Error merging override )([^'=\s]+)", text)
    if isinstance(cause, OmegaConfBaseException):
        key = str(cause.full_key or "")
        reason = str(cause.msg or cause).splitlines()[0]
        if isinstance(cause, InterpolationResolutionError):
            reason = dangling(cause, schema)
        shape = re.match(r"Merge error: \w+ is not a subclass of (\w+)\. value: (.*)", reason)
        if shape:
            reason = f"where a mapping belongs ({shape[1]}) stands {shape[2]!r}"
        if reason in ("Cannot merge DictConfig with ListConfig", "Cannot merge incompatible container types"):
            reason = "a list stands where a mapping such as {name: value} belongs, or a mapping where a list does"
        if isinstance(cause, ValidationError):
            return f"{key or (override[1] if override else 'config')}: {reason}"
        unknown = re.search(r"Key '([^']*)' (?:is )?not in (.*)", reason)
        if unknown:
            given = override[1] if override else key
            return _unknown_key(
                key if key.startswith(f"{given}.") else given, schema
            )  # a part of a mapping given whole
        return f"{key}: {reason}" if key else reason
    several = re.match(r"Ambiguous value for argument '(.*)'\n", text)
    if several:
        return f"{several[1]} are several values: add -m to run each, or write a list as [a,b]"
    return " ".join(line.strip() for line in text.splitlines()[:4])


def dangling(error: InterpolationResolutionError, schema: Schema) -> str:
    """Say where a `${...}` points that leads nowhere, and which key was probably meant."""
    reason = str(error.msg or error).splitlines()[0]
    target = re.search(r"key '([^']+)' not found", reason)
    return f"${{{target[1]}}} points at no key; {nearest_key(target[1], schema)}" if target else reason


def _unknown_key(key: str, schema: Schema) -> str:
    return f"unknown key {key!r}; {nearest_key(key, schema)}"


def nearest_key(key: str, schema: Schema) -> str:
    """Say which key of the schema is nearest to `key`, or what stands in its section.

    >>> from dln.config import ComparativeConfig, SingleConfig
    >>> nearest_key("metrics", ComparativeConfig), nearest_key("callbacks", ComparativeConfig)
    ("did you mean 'model_metrics'?", "did you mean 'shared.callbacks'?")
    >>> nearest_key("tracker.name", SingleConfig)
    "give 'tracker' whole: tracker={name: ...}"
    >>> nearest_key("reference", ComparativeConfig)
    'a comparison has one already: model a, whose own values stand in model_a, training_a and callbacks_a'
    """
    if schema is ComparativeConfig and key.partition(".")[0] in ("reference", "branch_at"):
        return "a comparison has one already: model a, whose own values stand in model_a, training_a and callbacks_a"
    known = [k for k, _ in fields(schema)]
    section, _, leaf = key.rpartition(".")
    whole = next((k for k in known if key.startswith(f"{k}.")), None)
    if whole is not None:
        return f"give {whole!r} whole: {whole}={{{key.removeprefix(f'{whole}.').partition('.')[0]}: ...}}"
    longer = [k for k in known if k.endswith((f".{key}", f"_{key}"))]
    if longer:
        return f"did you mean {min(longer, key=len)!r}?"
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    close = difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.6)
    if close:
        return f"did you mean {siblings[close[0]]!r}?"
    alike = [k for k in known if k.rpartition(".")[2] == leaf]
    elsewhere = difflib.get_close_matches(key, alike, n=1, cutoff=0) or difflib.get_close_matches(key, known, n=1)
    if elsewhere:
        return f"did you mean {elsewhere[0]!r}?"
    heads = siblings or {k.partition(".")[0] for k in known}
    return f"known{f' in {section}' if siblings and section else ''}: {', '.join(sorted(heads))}"


def _missing_config(error: MissingConfigException, directory: Path) -> str:
    name = error.missing_cfg_file or ""
    if not name or "/" in name or not directory.is_dir():
        # A config group: Hydra lists its options.
        text = " ".join(str(error).partition("Config search path")[0].split())
        plugin = re.search(
            r"Could not find '(hydra/(?:launcher|sweeper))/(\w+)' Available options in '[^']*': (.*)", text
        )
        return _no_plugin(*plugin.groups()) if plugin else text
    return f"no config named {name!r} in {directory}; {suggestion(name, [p.stem for p in directory.glob('*.yaml')])}"


def _no_plugin(group: str, name: str, there: str) -> str:
    """Say how to get a plugin of Hydra that is not installed.

    >>> _no_plugin("hydra/launcher", "ray_aws", "basic joblib")
    "hydra/launcher=ray_aws is not installed, only basic joblib: pip install 'dln[ray]', or -e '.[ray]'"
    """
    extra = next((extra for extra in EXTRAS if name.startswith(extra)), None)
    remedy = f": pip install 'dln[{extra}]', or -e '.[{extra}]'" if extra else ""
    return f"{group}={name} is not installed, only {there}{remedy}"
