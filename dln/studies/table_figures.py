"""Figures of tables in memory: of `dln.aggregate`, or of `dln.load_sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dln.errors import ConfigError
from dln.figures.table_columns import curves_of
from dln.studies.figures import draw
from dln.studies.found import Found
from dln.studies.sweep_asked import Asked, first_among
from dln.studies.sweep_figures import names_of, sweep_figure

if TYPE_CHECKING:
    import polars
    from matplotlib.figure import Figure


def frame_figure(frame: polars.DataFrame, asked: Asked, rate: float | None = None) -> Figure:
    """Return the figure of a table of `dln.aggregate`, or of `dln.load_sweep`.

    Args:
        frame: The table.
        asked: What is to be drawn; of averages all of `over`, `where` and `baseline` is done already.
        rate: The learning rate of averages, where it is no key.

    Raises:
        ConfigError: There is no such curve, key, figure or option.
        StorageError: The frame is none of the two.
    """
    if "step" in frame.columns and not frame["step"].dtype.is_nested():
        return _of_averages(Found("averages", "", frame, lr=rate), asked)
    return sweep_figure(frame, asked)[0]


def _of_averages(found: Found, asked: Asked) -> Figure:
    for name in ("over", "where", "baseline"):
        if getattr(asked, name):
            raise ConfigError(f"{name}: the table is averaged already; give it to dln.aggregate")
    of = [*asked.metric] if asked.metric else first_among(curves_of(found.table))
    keys = [key for key in (asked.by or found.varying) if key not in (asked.rows, asked.columns)]
    kind = asked.figure or "curves"
    params: dict[str, Any] = {"middle": asked.middle, "log": asked.log}
    if kind == "map":
        if len(keys) < 2:
            raise ConfigError(
                f"a map needs two keys that vary, and there is {', '.join(keys) or 'none'}: name them (by)"
            )
        params |= {"of": of[0], "x": keys.pop(0), "y": keys.pop(0)}
    elif kind == "finals":
        if not keys:
            raise ConfigError("final values are drawn against a key: name it (by)")
        params |= {"of": of[0], "x": keys.pop(0), "per": keys.pop(0) if keys else None}
    elif kind == "plane":
        if len(of) != 2:
            raise ConfigError("a plane is of two curves: name them (metric), across and up")
        params |= {"x": of[0], "y": of[1], "per": keys.pop(0) if keys else None}
    elif kind == "ratio":
        params = {"of": of[0], "per": keys.pop(0) if keys else None, "x": asked.x, "log": asked.log}
    else:
        params |= {"of": of, "per": keys.pop(0) if keys else None, "x": asked.x, "names": names_of(of, found.curves)}
    params |= {"band": asked.band or "interval"} if kind in ("curves", "finals") else {}
    columns = asked.columns or (keys.pop(0) if keys else None)
    rows = asked.rows or (keys.pop(0) if keys else None)
    return draw(found, kind, params, rows, columns, asked.style)
