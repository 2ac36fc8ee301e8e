"""Write the tables of the reference into its pages: `python docs/make_tables.py`.

A table stands in a page between `<!-- table: NAME -->` and `<!-- end -->`, there for whoever reads the file. A test
(`tests/cli/test_help.py`) holds it to what is registered.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dln.base.registry import Registry
from dln.cli.help import key_table, markdown_table, registries
from dln.config import ComparativeConfig, SingleConfig

DOCS = Path(__file__).resolve().parent
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Return every table by its name: `keys`, `comparative keys`, and the kind of each registry, as `metric`."""
    found = {"keys": key_table(SingleConfig), "comparative keys": key_table(ComparativeConfig)}
    for schema in (SingleConfig, ComparativeConfig):
        found |= {registry.kind: markdown_table(built_in(registry)) for _, registry in registries(schema)}
    return found


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
