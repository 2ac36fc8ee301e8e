"""Figures of a stored sweep: what one would look at first, or what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from dln.base.files import from_home
from dln.errors import ConfigError, StorageError
from dln.figures.table_columns import BANDS, numbers_of
from dln.figures.table_curves import LOSSES
from dln.figures.table_panels import draw_panels
from dln.figures.table_runs import runs as draw_runs
from dln.figures.table_words import RATE, said, short, value_of
from dln.predictions import theories_of, told_by
from dln.results.frames import stored_columns
from dln.results.listing import StoredSweep, look
from dln.results.tables import RUN
from dln.studies.figures import draw
from dln.studies.found import Found
from dln.studies.opening import open_runs
from dln.studies.own_reference import REFERENCE
from dln.studies.stored_runs import StoredRuns
from dln.studies.stored_sums import StoredSums
from dln.studies.sweep_asked import SHARE, Asked, Keys, averaged_over, check_figure, curves_of, keys_of, placed
from dln.studies.sweep_tables import curve_table, final_table, quantiles_for, run_frame

if TYPE_CHECKING:
    import polars

    from dln.studies.opening import Results

FEW = 5
"""Runs of a condition below which they are drawn each for itself: an interval of so few says little."""

SOME = 100
"""Runs that differ in seeds alone below which each is drawn too."""

MANY = 4
"""Values of two keys from which on what one looks at first is a map of them."""

LANES = {"_a": "a", "_b": "b"}
"""What lane a and b are called, by what their columns end in."""


Drawn = tuple[Figure, str]
"""A figure, and in one line what it is of."""


def sweep_figure(results: Results, asked: Asked) -> Drawn:
    """Return a figure of a sweep, and in one line what it is of.

    Args:
        results: The sweep's directory, or a frame that was loaded from it.
        asked: What is to be drawn.

    Raises:
        StorageError: There is nothing to draw, or no such key or curve.
        ConfigError: There is no such figure or option, or it does not fit the sweep.
    """
    check_figure(asked.figure, [*FIGURES])
    sweep = _opened(results)
    if asked.x == "time" and RATE not in sweep.runs.keys and "time" not in sweep.runs.curve_names():
        raise ConfigError(
            f"{sweep.name}: lr x step is of single runs, and lanes have rates of their own: draw against step"
        )
    name = asked.figure or sweep.first(asked)
    return FIGURES[name](sweep, replace(asked, figure=name))


@dataclass(frozen=True)
class _Sweep:
    results: Results
    runs: StoredRuns
    events: list[str]
    name: str
    rate: float | None
    """The learning rate of all runs, None where they differ in it or it is not known."""

    @property
    def lanes(self) -> dict[str, str]:
        """What the lanes of a comparison are called."""
        pair = any(key.partition(".")[0].endswith("_a") for key in self.runs.keys)
        return LANES if pair else {"_a": "reference", "_b": "run"}

    def found(self, table: polars.DataFrame) -> Found:
        return Found(self.name, "", table, lr=self.rate)

    def first(self, asked: Asked) -> str:
        """Return which figure is drawn if none is named."""
        if asked.baseline is not None:
            return "ratio"
        over = averaged_over(self.runs, asked)
        keys = keys_of(self.runs, asked, over)
        if asked.metric is not None and any(self._is_final(name) for name in asked.metric):
            return "map" if len(keys) > 1 else "finals"
        numeric = [key for key in keys[:2] if self.runs.counts[key] >= MANY and self._of_numbers(key)]
        if len(numeric) == 2 and asked.rows is asked.columns is asked.by is None and asked.x == "step":
            return "map"
        curves = curves_of(self.runs, asked.metric, self.events)
        alone = len(curves) == 1 and asked.band is None and asked.x != "loss" and asked.middle == "mean"
        if not alone or isinstance(self.runs, StoredSums):
            return "curves"
        return "runs" if self._fewest(over) < (FEW if keys else SOME) else "curves"

    def _is_final(self, name: str) -> bool:
        return name == SHARE or name.partition("[")[0] in self.events

    def _of_numbers(self, key: str) -> bool:
        return numbers_of(self.runs.lazy.select(key).unique().collect().to_series().to_list())

    def _fewest(self, over: list[str]) -> int:
        """Return how many runs the smallest condition has."""
        by = [key for key in self.runs.varying if key not in over]
        if not over:
            return 1
        import polars as pl

        counts = self.runs.lazy.select(*by).group_by(by).agg(pl.len()) if by else self.runs.lazy.select(pl.len())
        return min(counts.collect().to_series(-1).to_list(), default=0)


def _opened(results: Results) -> _Sweep:
    """Return a sweep with what its figures need to know of it."""
    runs = open_runs(results)
    if isinstance(results, str | Path):
        stored = look(from_home(results))
        fixed = stored.fixed if isinstance(stored, StoredSweep) else {}
        events = [] if isinstance(runs, StoredSums) else stored_columns(results)["events"]
        return _Sweep(results, runs, events, from_home(results).name, fixed.get(RATE))
    import polars as pl

    plain = {*runs.keys, *runs.curve_names(), RUN, "step"}
    lists = [name for name, kind in runs.schema.items() if isinstance(kind, pl.List) and kind.inner.is_nested()]
    rates = runs.lazy.select(RATE).unique().collect() if RATE in runs.keys else None
    rate = rates.item() if rates is not None and len(rates) == 1 else None
    return _Sweep(
        results, runs, [name for name in runs.schema if name not in plain and name not in lists], runs.name, rate
    )


def _curves(sweep: _Sweep, asked: Asked) -> Drawn:
    of = curves_of(sweep.runs, asked.metric, sweep.events)
    own = [name for name in of if not told_by(name, theories_of(sweep.runs.curve_names()))[1]]
    keys = placed(
        sweep.runs,
        asked,
        averaged_over(sweep.runs, asked),
        coloured=len(own) == 1 or (len(own) == 2 and own[0].endswith("_a")),
    )
    needed = [*of, *_for_x(sweep, asked.x, of)]
    band = asked.band or "interval"
    quantiles = quantiles_for(asked.middle, band)
    table = _table(sweep, keys, needed, asked, quantiles=quantiles)
    params = {"of": of, "per": keys.per, "x": asked.x, "middle": asked.middle, "band": band, "log": asked.log}
    params["names"] = names_of(of, sweep.runs.curve_names(), sweep.lanes)
    params["label"] = label_of(of, sweep.runs.curve_names())
    figure = draw(sweep.found(table), "curves", params, keys.rows, keys.columns, asked.style)
    return figure, f"{_averaged(asked.middle, of, keys)}{_around(band, keys)}{_apart(keys)}"


def _runs(sweep: _Sweep, asked: Asked) -> Drawn:
    if asked.x == "loss":
        raise ConfigError("single runs are drawn against step or time; against the loss draw --figure curves")
    over = averaged_over(sweep.runs, asked)
    of = curves_of(sweep.runs, asked.metric, sweep.events)
    own = [name for name in of if not told_by(name, theories_of(sweep.runs.curve_names()))[1]]
    one = (own or of)[-1]
    if asked.metric is not None and len(own) > 1:
        raise ConfigError(f"--figure runs draws one curve of every run, not {', '.join(own)}: name one (metric)")
    keys = placed(sweep.runs, asked, over, coloured=True)
    loaded = [*keys.by, *([RATE] if RATE in sweep.runs.keys else [])]
    frame = run_frame(sweep.runs, loaded, [one], asked.where)

    def panel(rows: polars.DataFrame, axes: Any, beside: Any) -> None:
        about = {"rate": sweep.rate, "whole": frame, "beside": beside, "axes": axes}
        draw_runs(rows, one, keys.per, asked.x, log=asked.log, **about)

    figure = draw_panels(frame, panel, keys.rows, keys.columns, style=asked.style)
    return figure, f"{one} of {len(frame)} run{'s' * (len(frame) > 1)}{_apart(keys)}"


def _ratio(sweep: _Sweep, asked: Asked) -> Drawn:
    baseline: Any = _baseline(sweep) if asked.baseline is None else asked.baseline
    of = [_one(sweep, asked, asked.metric)]
    keys = placed(sweep.runs, asked, averaged_over(sweep.runs, asked), coloured=True)
    needed = [*of, *_for_x(sweep, asked.x, of)]
    table = _table(sweep, keys, needed, replace(asked, baseline=baseline))
    told = _told(baseline)
    params = {"of": of[0], "per": keys.per, "x": asked.x, "log": asked.log, "baseline": told}
    params["label"] = f"{said(of[0].removesuffix('_b'))} / {told}" if told == REFERENCE else None
    figure = draw(sweep.found(table), "ratio", params, keys.rows, keys.columns, asked.style)
    about = f"ratio of the mean {of[0]} to {told}, over {_listed(keys.over)}, with 95 % intervals"
    return figure, about + _apart(keys)


def _finals(sweep: _Sweep, asked: Asked) -> Drawn:
    keys = placed(sweep.runs, asked, averaged_over(sweep.runs, asked), coloured=True)
    if keys.per is None:
        raise ConfigError(f"final values are drawn against a key, and no key but seeds varies in {sweep.runs.name}")
    of, band = _values(sweep, asked), asked.band or "interval"
    table = _ends(sweep, keys, of, asked, band)
    params = {"of": of, "x": keys.per, "per": keys.columns, "middle": asked.middle, "band": band, "log": asked.log}
    params["label"] = _label(sweep, of)
    figure = draw(sweep.found(table), "finals", params, keys.rows, None, asked.style)
    told = f", colour {keys.columns}" if keys.columns else ""
    told += f", rows {keys.rows}" if keys.rows else ""
    return figure, f"final {_averaged(asked.middle, [of], keys)}{_around(band, keys)} against {keys.per}{told}"


def _map(sweep: _Sweep, asked: Asked) -> Drawn:
    over = averaged_over(sweep.runs, asked)
    free = keys_of(sweep.runs, asked, over)
    if len(free) < 2:
        raise ConfigError(f"a map needs two keys that vary, and there is {_listed(free) or 'none'}: name them (by)")
    more = placed(sweep.runs, replace(asked, by=free[2:]), over, coloured=False)
    of = _values(sweep, asked)
    keys = Keys(more.over, None, more.columns, more.rows, more.counts)
    table = _ends(sweep, keys, of, asked, "none", free[:2])
    params = {
        "of": of,
        "x": free[0],
        "y": free[1],
        "middle": asked.middle,
        "log": asked.log,
        "label": _label(sweep, of),
    }
    params["nothing"] = "did not happen" if of.partition("[")[0] in sweep.events else "no value"
    figure = draw(sweep.found(table), "map", params, more.rows, more.columns, asked.style)
    return (figure, f"map of final {_averaged(asked.middle, [of], keys)} over {free[0]} and {free[1]}{_apart(more)}")


def _plane(sweep: _Sweep, asked: Asked) -> Drawn:
    if asked.metric is None or len(asked.metric) != 2:
        raise ConfigError("a plane is of two curves: --metric train_loss,sharpness is across and up")
    across, up = (_one(sweep, asked, [name]) for name in asked.metric)
    keys = placed(sweep.runs, asked, averaged_over(sweep.runs, asked), coloured=True)
    table = _table(sweep, keys, [across, up], asked, quantiles=quantiles_for(asked.middle, "none"))
    params = {"x": across, "y": up, "per": keys.per, "middle": asked.middle, "log": asked.log}
    figure = draw(sweep.found(table), "plane", params, keys.rows, keys.columns, asked.style)
    return figure, f"{_averaged(asked.middle, [up], keys)} against that of {across}{_apart(keys)}"


FIGURES: dict[str, Callable[[_Sweep, Asked], Drawn]] = {
    "curves": _curves,
    "runs": _runs,
    "ratio": _ratio,
    "finals": _finals,
    "map": _map,
    "plane": _plane,
}
"""What `--figure` may name of a sweep."""


def _table(
    sweep: _Sweep, keys: Keys, of: list[str], asked: Asked, quantiles: tuple[float, ...] = ()
) -> polars.DataFrame:
    where, once = asked.where, [*dict.fromkeys(of)]
    return curve_table(sweep.results, sweep.runs, keys.over, keys.by, once, where, asked.baseline, quantiles)


def _ends(
    sweep: _Sweep, keys: Keys, of: str, asked: Asked, band: str, more: list[str] | None = None
) -> polars.DataFrame:
    by = [*(more or []), *keys.by]
    quantiles = quantiles_for(asked.middle, band)
    return final_table(sweep.results, sweep.runs, keys.over, by, of, asked.where, sweep.events, quantiles)


def _values(sweep: _Sweep, asked: Asked) -> str:
    """Return the one final value that is drawn."""
    if asked.metric is None:
        return curves_of(sweep.runs, None, sweep.events)[-1 if "test_loss_b" in sweep.runs.curve_names() else 0]
    if len(asked.metric) > 1:
        raise ConfigError(f"--figure {asked.figure} draws one value of every run, not {', '.join(asked.metric)}")
    name = asked.metric[0]
    return f"{name}_b" if f"{name}_b" in sweep.runs.curve_names() else name


def _one(sweep: _Sweep, asked: Asked, names: Sequence[str] | None) -> str:
    """Return the one curve that is named; of two lanes that of b, and if none is named the loss."""
    of = curves_of(sweep.runs, names, sweep.events)
    if names is not None and len(of) > 1 and not (len(of) == 2 and of[1] == f"{of[0][:-2]}_b"):
        raise ConfigError(f"--figure {asked.figure} draws one curve, not {', '.join(of)}: name one of them")
    return next(name for name in of[::-1] if not told_by(name, theories_of(sweep.runs.curve_names()))[1] or names)


def _label(sweep: _Sweep, of: str) -> str | None:
    if of == SHARE:
        return "share of runs that diverge"
    return said(of) if of.partition("[")[0] in sweep.events else None


def _for_x(sweep: _Sweep, x: str, of: list[str]) -> list[str]:
    """Return the curves that the horizontal axis needs."""
    known = sweep.runs.curve_names()
    if x == "time":
        return ["time"] if "time" in known and "time" not in of else []
    if x != "loss":
        return []
    losses = [name for name in LOSSES if name in known]
    if not losses:
        raise StorageError(f"{sweep.runs.name} has no loss to draw against")
    if losses[0] in of:
        raise ConfigError(f"that would be {losses[0]} against itself: name another curve with --metric")
    return losses[:1]


def _baseline(sweep: _Sweep) -> Any:
    """Return what ratios are to if nothing is named: each run's own reference, or the full batch."""
    known = sweep.runs.curve_names()
    if any(name.endswith("_a") and f"{name[:-2]}_b" in known for name in known):
        return REFERENCE
    key = "training.batch_size"
    if key in sweep.runs.varying and None in sweep.runs.lazy.select(key).unique().collect().to_series().to_list():
        return {key: None}
    raise ConfigError("a ratio is to a baseline: name it, as --baseline training.batch_size=null, or another sweep")


def _told(baseline: Any) -> str:
    if isinstance(baseline, dict):
        return ", ".join(f"{short(key)} {value_of(key, value)}" for key, value in baseline.items())
    return str(baseline) if baseline == REFERENCE else Path(str(baseline)).name


def names_of(of: list[str], known: list[str], lanes: Mapping[str, str] = LANES) -> list[str]:
    """Return what curves are called in the legend: theories and lanes by what they are, where one curve is drawn.

    >>> names_of(["test_loss", "test_loss_flow"], ["test_loss", "train_loss_flow", "test_loss_flow"])
    ['test loss', 'flow']
    >>> names_of(["test_loss_a", "test_loss_b"], ["test_loss_a", "test_loss_b"])
    ['a', 'b']
    """
    if base_of(of):
        return [lanes.get(name[-2:]) or name[len(base_of(of)) :].strip("[].") for name in of]
    theories = theories_of(known)
    told = [told_by(name, theories) for name in of]
    return [
        said(what) if not theory else theory if what == told[0][0] else f"{said(what)}, {theory}"
        for what, theory in told
    ]


def label_of(of: list[str], known: list[str]) -> str:
    """Return what an axis of several curves is: of theirs, without lanes, entries and theories, each once.

    >>> label_of(["drift", "noise_trace"], []), label_of(["test_loss_a", "test_loss_b"], [])
    ('drift, noise trace', 'test loss')
    >>> label_of(["gap_flow", "gap_lazy"], ["gap", "gap_flow", "gap_lazy", "train_loss_flow", "train_loss_lazy"])
    'gap'
    """
    theories = theories_of(known)
    told = [told_by(name, theories)[0] for name in of]
    base = base_of(told)
    return ", ".join(dict.fromkeys([said(base)] if base else map(said, told)))


def base_of(of: list[str]) -> str:
    """Return what several curves are of that are the same of two lanes, or entries of one vector; "" for others.

    >>> base_of(["test_loss_a", "test_loss_b"]), base_of(["test_loss"]), base_of(["modes[1]", "modes[2]"])
    ('test_loss', '', 'modes')
    """
    bases = {name[:-2] if name.endswith(tuple(LANES)) else name.partition("[")[0] for name in of}
    return bases.pop() if len(of) > 1 and len(bases) == 1 else ""


def _listed(names: list[str]) -> str:
    return " and ".join(names)


def _averaged(middle: str, of: list[str], keys: Keys) -> str:
    return f"{', '.join(of)}: {middle} over {_listed(keys.over)}" if keys.over else ", ".join(of)


def _around(band: str, keys: Keys) -> str:
    told = {"interval": "95 % interval", "quantiles": "10 to 90 %", "std": "standard deviation"}
    if band not in BANDS:
        return ""
    return f" with {told[band]}" if keys.over and band in told else ""


def _apart(keys: Keys) -> str:
    told = {"colour": keys.per, "columns": keys.columns, "rows": keys.rows}
    return "".join(f", {name} {key}" for name, key in told.items() if key is not None)
