"""The errors a user can cause, each carrying the fault and the remedy in one short message."""

import difflib
from collections.abc import Iterable


class DlnError(Exception):
    """An error whose message says all the user needs; the doors print it without a stack trace."""


class ConfigError(DlnError, ValueError):
    """A configuration that cannot be run: names the key, the fault and, where there is one, the nearest choice."""


class ExtensionError(DlnError, RuntimeError):
    """A user's metric, callback or teacher raised; `__cause__` is what it raised, with the trace into their file."""


class StorageError(DlnError, OSError):
    """Results could not be written or read; says what is safe."""


class LaunchError(DlnError, RuntimeError):
    """The jobs of a launcher came to nothing."""


def suggestion(word: object, choices: Iterable[str]) -> str:
    """Say which of `choices` was probably meant, then list them all.

    >>> suggestion("weight_nrom", ["weight_norm", "gradient_norm"])
    "did you mean 'weight_norm'? (known: gradient_norm, weight_norm)"
    >>> suggestion("xyz", ["b", "a"])
    'known: a, b'
    """
    known = {str(choice).lower(): str(choice) for choice in choices}
    if not known:
        return "none are known"
    listing = f"known: {_listed(sorted(known.values()))}"
    close = difflib.get_close_matches(str(word).lower(), known, n=1, cutoff=0.55)
    return f"did you mean {known[close[0]]!r}? ({listing})" if close else listing


def _listed(words: list[str], most: int = 200) -> str:
    """Put words in one line; of very many, the first, and how many there are."""
    shown: list[str] = []
    for word in words:
        if len(", ".join([*shown, word])) > most:
            return f"{', '.join(shown)}, ... {len(words)} in all, see --help"
        shown.append(word)
    return ", ".join(shown)
