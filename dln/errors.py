"""The errors a user can cause, each carrying the fault and the remedy in one short message."""

import difflib
from collections.abc import Iterable


class DlnError(Exception):
    r"""An error whose message says all the user needs; the doors print it without a stack trace.

    A message may quote what a user gave, which can be anything: what no terminal should be sent is escaped, and a line
    that would fill a screen is cut.

    >>> print(DlnError(f"no {chr(27)}[31m"))
    no \x1b[31m
    """

    def __init__(self, message: object = "") -> None:
        """Take the message."""
        super().__init__("\n".join(map(_cut, printable(str(message)).split("\n"))))
        self.runs: dict[int, str] = {}
        """Of runs that are trained together: those whose own fault it is, by number, and what each raised."""


class ConfigError(DlnError, ValueError):
    """A configuration that cannot be run: names the key, the fault and, where there is one, the nearest choice."""


class ExtensionError(DlnError, RuntimeError):
    """A user's metric, callback or teacher raised; `__cause__` is what it raised, with the trace into their file."""


USER_FAULTS = (Exception, SystemExit)
"""What a user's code may raise that becomes an ExtensionError; also `sys.exit(0)`, which must not look like success."""


class StorageError(DlnError, OSError):
    """Results could not be written or read; says what is safe."""


class DamagedError(StorageError):
    """A file does not hold what was written to it."""

    def __init__(self, path: object, fault: str = "its content is not what was written", remedy: str = "") -> None:
        """Name the file, what is wrong with it, and what to do: by default, to run again what wrote it."""
        self.path, self.fault = path, fault
        remedy = remedy or "give the command that made it again: it sets the file aside and computes what was in it"
        super().__init__(f"{path} is damaged: {fault}; {remedy}")


class LaunchError(DlnError, RuntimeError):
    """The jobs of a launcher failed."""


def _cut(line: str, most: int = 900) -> str:
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


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


def printable(text: str) -> str:
    """Return text with all characters escaped that a terminal would act on, except line breaks.

    >>> printable("a bell: " + chr(7)) == "a bell: " + chr(92) + "x07"
    True
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
