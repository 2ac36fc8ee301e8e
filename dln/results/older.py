"""What sweeps that were stored by earlier versions say of keys that the schema did not have: the defaults of these.

A new key's default leaves runs as they were before there was one.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from dln.config import ComparativeConfig, SingleConfig, fields


def default_of(key: str) -> Any:
    """Return the default of a key of a schema; None where it has none, or is no key.

    >>> default_of("data.rotate"), default_of("model_a.hidden_dim"), default_of("train_loss")
    (False, 50, None)
    """
    return _defaults().get(key)


@functools.cache
def _defaults() -> dict[str, Any]:
    found = {}
    for schema in (SingleConfig, ComparativeConfig):
        for key, item in fields(schema):
            made = item.default_factory
            found[key] = item.default if made is dataclasses.MISSING else made()
    return found
