"""What comes of a table of `dln.aggregate`: how each condition ends, and where it leaves its baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dln.studies.comparison import departure

if TYPE_CHECKING:
    import polars

ENDED = ("runs", "diverged", "stopped", "lost")
LAST = ("count", "mean", "low", "high")
COMPARED = ("baseline", "ratio", "ratio low", "ratio high", "g")


def outcomes(table: polars.DataFrame) -> polars.DataFrame:
    """Return how conditions end and where they leave their baseline: a row for each condition and curve.

    Its columns: the keys; `curve`; `step`, the last one of the condition, or of the baseline where that ends before;
    and those of that step, `runs`, `diverged`, `stopped`, `lost`, `count`, `mean`, `low`, `high`. If there is a
    baseline, also `baseline`, `ratio`, `ratio low`, `ratio high`, `g` there; `first`, the first step at which the mean
    is outside the baseline's band, on which side (`first side`: 1 above, -1 below), and the corrected p value there
    (`first p`); `lasting`, the first step from which on it stays outside, on one side, to the last step at which that
    is known, and on which (`lasting side`). Null where there is none.

    Args:
        table: Of `dln.aggregate`.
    """
    import polars as pl

    keys = condition_keys(table)
    curves = [name.removesuffix(" count") for name in table.columns if name.endswith(" count")]
    compared = any(name.endswith(" side") for name in table.columns)
    rows = []
    for condition in table.partition_by(keys, maintain_order=True) if keys else [table]:
        for curve in curves:
            last = _last(condition, f"{curve} baseline" if compared else "step")
            row = {key: last[key] for key in keys} | {"curve": curve, "step": last["step"]}
            row |= {name: last[name] for name in ENDED}
            row |= {name: last[f"{curve} {name}"] for name in (*LAST, *(COMPARED if compared else ()))}
            rows.append(row | (_left(condition, curve) if compared else {}))
    kinds = {key: table.schema[key] for key in keys} | dict.fromkeys(("first side", "lasting side"), pl.Int8())
    kinds |= {"first": pl.Int64(), "first p": pl.Float64(), "lasting": pl.Int64()}
    return pl.DataFrame(rows, schema_overrides=kinds, infer_schema_length=None)


def condition_keys(table: polars.DataFrame) -> list[str]:
    """Return the keys that tell the conditions of a table apart."""
    return table.columns[: table.columns.index("step")]


def _last(condition: polars.DataFrame, name: str) -> dict[str, Any]:
    """Return the last row that has a value in a column; the last of all, if none has."""
    known = condition[name].is_not_null().arg_true()
    return condition.row(known[-1] if len(known) else -1, named=True)


def _left(condition: polars.DataFrame, curve: str) -> dict[str, Any]:
    side, p = condition[f"{curve} side"], condition[f"{curve} p corrected"]
    found = departure([float("nan") if s is None else s for s in side.to_list()])
    told: dict[str, Any] = dict.fromkeys(("first", "first side", "first p", "lasting", "lasting side"))
    for name, place in (("first", found.first), ("lasting", found.lasting)):
        if place is not None:
            told |= {name: condition["step"][place], f"{name} side": side[place]}
    return told if found.first is None else told | {"first p": p[found.first]}
