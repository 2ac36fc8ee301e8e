"""Write the tables of the reference into its pages: `python docs/make_tables.py`.

A table stands in a page between `<!-- table: NAME -->` and `<!-- end -->`, there for whoever reads the file. A test
(`tests/cli/test_help.py`) holds it to what is registered.
"""

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dln.plotting
import dln.theory
from dln.__main__ import build_parser
from dln.base.registry import Registry
from dln.cli.help import key_table, markdown_table, registries
from dln.config import ComparativeConfig, SingleConfig

DOCS = Path(__file__).resolve().parent
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Return every table by its name: `keys`, `commands`, `dln show`, `metric` and other kinds of registry, ..."""
    found = {"keys": key_table(SingleConfig), "comparative keys": key_table(ComparativeConfig), **command_tables()}
    found |= {f"reference {module.__name__}": reference(module) for module in (dln.theory, dln.plotting)}
    for schema in (SingleConfig, ComparativeConfig):
        found |= {registry.kind: markdown_table(built_in(registry)) for _, registry in registries(schema)}
    return found


def reference(module: ModuleType) -> str:
    """Return what tells mkdocstrings of all that a module exports, functions and classes by where they are defined."""
    exported = {name: getattr(module, name) for name in module.__all__}
    defined = {name for name, one in exported.items() if inspect.isfunction(one) or inspect.isclass(one)}
    where = sorted((exported[name].__module__, name) for name in defined)
    where += [(module.__name__, name) for name in exported if name not in defined]
    return "\n" + "\n\n".join(f"::: {home}.{name}" for home, name in where) + "\n"


def command_tables() -> dict[str, str]:
    """Return the table of all commands of dln, and that of the arguments of each one that has any."""
    (subparsers,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    told = {choice.dest: choice.help for choice in subparsers._choices_actions}
    rows = [f"| `dln {name}` | {cell(meaning)} |" for name, meaning in told.items()]
    found = {"commands": "\n".join(["| command | does |", "|---|---|", *rows])}
    for name, parser in subparsers.choices.items():
        rows = [f"| `{written(action)}` | {cell(action.help)} |" for action in parser._actions if action.dest != "help"]
        if rows:
            found[f"dln {name}"] = "\n".join(["| argument | is |", "|---|---|", *rows])
    return found


def written(action: argparse.Action) -> str:
    """Return an argument as it is written on the command line."""
    value = action.metavar or " or ".join(map(str, action.choices or [])) or action.dest.upper()
    if not action.option_strings:
        return {"*": f"[{value} ...]", "+": f"{value} ...", "?": f"[{value}]"}.get(str(action.nargs), str(value))
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def cell(text: str | None) -> str:
    """Return a text for a cell of a table."""
    return (text or "").replace("|", "\\|").replace("%%", "%")


def built_in(registry: Registry) -> Registry:
    """Return the registry without what extensions have registered in this process."""
    clean = Registry(registry.kind)
    clean._entries = {entry.name: entry for entry in registry if entry.function.__module__.startswith("dln.")}
    return clean


def filled(page: str, known: dict[str, str]) -> str:
    """Return a page with its tables as they should be; a name that there is not is a `KeyError`."""
    return TABLE.sub(lambda found: f"{found[1]}{known[found[2]]}\n{found[3]}", page)


def pages() -> Iterator[Path]:
    """Yield the pages that have tables."""
    yield from (page for page in sorted(DOCS.rglob("*.md")) if TABLE.search(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    for page in pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, tables()), encoding="utf-8")
