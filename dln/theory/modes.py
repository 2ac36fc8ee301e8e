"""Aligned modes: the strengths of singular modes that learn each for itself, in closed form at any depth.

Where the singular vectors of W are those of the least-squares map W*, layers are balanced and inputs are white, each
mode moves alone: with a its strength in W, s that in W*, and time t = 2 lr step / d_out,

    da/dt = L a^(2 - 2/L) (s - a)                                    (Saxe, McClelland, Ganguli, arXiv 1312.6120)

In units of s all modes of one depth run along one curve. For 0 < a < s put z = a / s and b = 2/L - 1; for a > s put
z = s / a and b = 2 - 2/L. Then dz/dt = L s^(2 - 2/L) z^(1 - b) (1 - z), so that the time that a mode takes is

    L s^(2 - 2/L) t = C(z) - C(z_0),    C(z) = sum_n z^(b + n) / (b + n) = z^b / b 2F1(1, b; 1 + b; z),

which is the closed form: t is a known function of a. To read a at a given t, C is inverted in q = ln(z / (1 - z)), in
which it is smooth, by Newton's method. s < 0 <= a, a mode that has to be unlearned, has a curve of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy  # which loads its parts when they are first used: no run waits for them that asks for no theory

from dln.base.arithmetic import uniform

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int

    Numbers = float | Float[np.ndarray, "*R"]
    Curve = Callable[[Float64[np.ndarray, " n"]], Float64[np.ndarray, " n"]]

SETTLED = 37.0
"""Q at which a is s to rounding."""

FOREVER = 1e300
"""On the clocks: long enough for every mode to be where it ends."""

SPACING = 0.1
"""Of the table of q from which Newton's method starts: close enough for it to double its digits at once."""


@uniform()
def aligned_modes(strength: Numbers, start: Numbers, depth: int, time: Numbers) -> Float64[np.ndarray, "*R"]:
    """Return a(t) of da/dt = L a^(2 - 2/L) (s - a): the strengths of aligned, balanced modes under gradient flow.

    Arguments broadcast. L = 1: s + (a_0 - s) e^(-t). L = 2: a_0 / (e^(-2st) + a_0 (1 - e^(-2st)) / s). L >= 3: the
    inverse of the closed form above, good to about 1e-14 of the larger of a_0 and s. A mode with a_0 = 0 stays there if
    L >= 2. A negative a_0 is that of a mode with the sign of one vector changed.

    Args:
        strength: s, in the least-squares map; of any sign.
        start: a_0.
        depth: L, the number of weight matrices.
        time: 2 lr step / d_out, at least 0.

    >>> aligned_modes(3.0, 0.01, 2, np.array([0.0, 1.0, 10.0])).round(4)
    array([0.01 , 1.723, 3.   ])
    >>> aligned_modes(np.array([3.0, 1.0, 0.0]), 0.5, 4, 1.0).round(4)
    array([3.    , 0.9724, 0.2341])
    """
    s, a, t = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (strength, start, time)))
    if depth == 1:
        return s + (a - s) * np.exp(-t)
    sign = np.where(a < 0, -1.0, 1.0)
    return sign * (_two_layers if depth == 2 else _deep)(sign * s, np.abs(a), t, depth)


@uniform()
def aligned_modes_gd(
    strength: Numbers, start: Numbers, depth: int, rate: Numbers, steps: Sequence[int] | Int[np.ndarray, " T"]
) -> Float64[np.ndarray, "*R T"]:
    """Return the strengths of aligned, balanced modes at some steps of gradient descent, exactly.

    Each layer has the singular value w = a^(1/L), and w <- w + rate (s - w^L) w^(L-1). Arguments but `steps` broadcast.

    Args:
        strength: s, in the least-squares map.
        start: a_0.
        depth: L.
        rate: 2 lr / d_out.
        steps: Ascending.

    >>> aligned_modes_gd(1.0, 0.25, 2, 0.5, [0, 1])  # w: 1/2, then 1/2 + 1/2 * 3/4 * 1/2 = 11/16
    array([0.25      , 0.47265625])
    """
    s, a, rate = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (strength, start, rate)))
    sign = np.where(a < 0, -1.0, 1.0)
    w, s = np.abs(a) ** (1 / depth), sign * s
    found, last = np.empty((*s.shape, len(steps))), 0
    for i, step in enumerate(steps):
        for _ in range(step - last):
            below = w ** (depth - 1)
            w = w + rate * (s - below * w) * below
        found[..., i], last = sign * w**depth, step
    return found


@uniform()
def half_time(strength: Numbers, start: Numbers, depth: int, fraction: float = 0.5) -> Float64[np.ndarray, "*R"]:
    """Return the time t at which an aligned mode has reached a `fraction` of its strength, exactly.

    0 for one that starts beyond it, infinite for one that never reaches it, NaN for one that has nothing to learn
    (s <= 0). In steps: t d_out / (2 lr).

    Args:
        strength: s.
        start: a_0, at least 0.
        depth: L.
        fraction: Between 0 and 1.

    >>> half_time(np.array([4.0, 2.0]), 1e-3, 2).round(4)  # ln(s / a_0 - 1) / (2 s)
    array([1.0367, 1.9001])
    """
    s, a = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (strength, start)))
    learns = s > 0
    s = np.where(learns, s, 1.0)
    if depth == 1:
        time = np.log((s - a) / (s - fraction * s))
    else:
        rising, goal = _clock(2 / depth - 1), np.log(fraction / (1 - fraction))
        begin = np.log(a) - np.log(s - a)
        time = (rising(np.array(goal)) - rising(begin)) / (depth * s ** (2 - 2 / depth))
        time = np.where(a == 0, np.inf, time)
    return np.where(learns, np.where(a >= fraction * s, 0.0, time), np.nan)


@uniform()
def escape_time(strength: Numbers, start: Numbers, depth: int) -> Float64[np.ndarray, "*R"]:
    """Return the time that an aligned mode takes to leave a small start, to leading order in a_0: how it scales.

    L = 1: 1. L = 2: ln(s / a_0) / (2 s). L >= 3: a_0^(-(L-2)/L) / ((L - 2) s). `half_time` is exact.

    Args:
        strength: s > 0.
        start: a_0 > 0, small beside s.
        depth: L.

    >>> escape_time(3.0, 1e-6, 4).round(3).item(), half_time(3.0, 1e-6, 4).round(3).item()
    (166.667, 166.615)
    """
    s, a = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (strength, start)))
    if depth == 1:
        return np.ones(s.shape)
    return np.log(s / a) / (2 * s) if depth == 2 else a ** (2 / depth - 1) / ((depth - 2) * s)


# --- the closed forms -------------------------------------------------------------------------------------------------


def _two_layers(s: np.ndarray, a: np.ndarray, t: np.ndarray, _: int) -> np.ndarray:
    """Return a(t), L = 2, in a form that holds for s of any sign, and 0."""
    shrunk = np.where(s == 0, 2 * t, -np.expm1(-2 * s * t) / np.where(s == 0, 1.0, s))
    return np.where(a == 0, 0.0, a / (np.exp(-2 * s * t) + a * shrunk))


def _deep(s: np.ndarray, a: np.ndarray, t: np.ndarray, depth: int) -> np.ndarray:
    """Return a(t), L >= 3, a_0 >= 0; NaN of what is not finite."""
    there = np.isfinite(s) & np.isfinite(a) & ~np.isnan(t)
    found = np.where(there & ((a == 0) | (a == s)), a, np.nan)
    courses = (
        ((a > 0) & (a < s), _learned),
        ((s > 0) & (a > s), _sunk),
        ((s < 0) & (a > 0), _unlearned),
        ((s == 0) & (a > 0), _faded),
    )
    for which, course in courses:
        some = there & which
        if some.any():
            found[some] = course(s[some], a[some], t[some], depth)
    return found


def _learned(s: np.ndarray, a: np.ndarray, t: np.ndarray, depth: int) -> np.ndarray:
    """Return a(t) of 0 < a_0 < s."""
    b = 2 / depth - 1
    return s * scipy.special.expit(_advanced(_clock(b), _pace(b), np.log(a) - np.log(s - a), _lapse(s, t, depth)))


def _sunk(s: np.ndarray, a: np.ndarray, t: np.ndarray, depth: int) -> np.ndarray:
    """Return a(t) of 0 < s < a_0."""
    b = 2 - 2 / depth
    return s / scipy.special.expit(_advanced(_clock(b), _pace(b), np.log(s) - np.log(a - s), _lapse(s, t, depth)))


def _unlearned(s: np.ndarray, a: np.ndarray, t: np.ndarray, depth: int) -> np.ndarray:
    """Return a(t) of s < 0 < a_0, which comes to zero as a power of time."""
    b, begin, lapse = 2 - 2 / depth, np.log(-s) - np.log(a), _lapse(s, t, depth)
    clock = _unlearning(b)
    far = np.log1p(2 * (b - 1) * (clock(begin) + lapse)) / (b - 1)  # the clock is late there
    return -s * np.exp(-_advanced(clock, lambda q: np.exp(b * q - np.logaddexp(0, q)), begin, lapse, far))


def _faded(_: np.ndarray, a: np.ndarray, t: np.ndarray, depth: int) -> np.ndarray:
    """Return a(t) of s = 0."""
    power = 2 - 2 / depth
    return a * (1 + depth * power * a**power * t) ** (-1 / power)


def _lapse(s: np.ndarray, t: np.ndarray, depth: int) -> np.ndarray:
    """Return what the clock goes on by in time t; for ever is a long time."""
    return np.minimum(depth * np.abs(s) ** (2 - 2 / depth) * t, FOREVER)


def _advanced(
    clock: Curve,
    pace: Curve,
    begin: Float64[np.ndarray, " n"],
    lapse: Float64[np.ndarray, " n"],
    far: np.ndarray | float = SETTLED,
) -> Float64[np.ndarray, " n"]:
    """Return q with clock(q) = clock(begin) + lapse: from a table of the curve, by Newton's method.

    Args:
        clock: A rising function of q.
        pace: Its derivative.
        begin: Where each mode is.
        lapse: What its clock goes on by.
        far: What the table reaches to; beyond, the clock must be linear.
    """
    least, most = np.min(begin), max(np.max(far), np.max(begin))
    table = SPACING * np.arange(np.floor(least / SPACING), np.ceil(most / SPACING) + 1)  # the same for any company
    goal = clock(begin) + lapse
    q = np.interp(goal, clock(table), table)
    for _ in range(4):
        q = q + (goal - clock(q)) / pace(q)
    return q


TERMS = 54
"""Of the series of `_clock`, whose terms halve at least."""


def _clock(b: float) -> Curve:
    """Return C as a function of q = ln(z / (1 - z)): dC/dq = z^b. Of b = 0 it is q.

    Up to z = 1/2 its series in z is summed; from there on that in e = 1 - z, which comes of integrating
    (1 - e)^(b-1) / e term by term: psi(1) - psi(b) - ln e - sum_n (1-b)(2-b)...(n-b) / n! e^n / n. (scipy's 2F1 loses
    all digits there when 1 + b - b - 1 is not 0 to the last bit.)
    """
    if b == 0:
        return lambda q: q
    n = np.arange(1, TERMS)
    of_z = 1 / (b + np.arange(TERMS))
    of_rest = np.concatenate([[0.0], np.cumprod((n - b) / n) / n])
    constant = scipy.special.digamma(1.0) - scipy.special.digamma(b)

    def clock(q: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
        least = scipy.special.expit(-np.abs(q))  # z or 1 - z, whichever is the smaller
        rising = q <= 0
        early = np.exp(-b * np.logaddexp(0, -np.minimum(q, 0))) * np.polynomial.polynomial.polyval(least, of_z)
        late = constant + np.logaddexp(0, q) - np.polynomial.polynomial.polyval(least, of_rest)
        return np.where(rising, early, late)

    return clock


def _pace(b: float) -> Curve:
    """Return dC/dq = z^b."""
    return lambda q: np.exp(-b * np.logaddexp(0, -q))


def _unlearning(b: float) -> Curve:
    """Return the clock of s < 0, by q = ln(|s| / a), y = e^q: the integral of y^(b-1) / (1 + y), 1 < b < 2.

    By parts it is an incomplete beta function: [y^b / (1 + y) - B(y / (1 + y); b, 2 - b)] / (b - 1).
    """
    whole = scipy.special.beta(b, 2 - b)
    return lambda q: (
        (np.exp(b * q - np.logaddexp(0, q)) - whole * scipy.special.betainc(b, 2 - b, scipy.special.expit(q))) / (b - 1)
    )
