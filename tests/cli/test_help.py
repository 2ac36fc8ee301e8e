"""Help, and the tables of the book, are what the registries say, and cannot drift."""

import re

import pytest

from dln.__main__ import main
from dln.cli.help import describe, help_text, registries
from dln.config import ComparativeConfig, SingleConfig, fields
from docs import make_tables


def test_the_book_has_the_table_of_every_registry_and_of_all_keys():
    """As `python docs/make_tables.py` writes them."""
    tables, found = make_tables.tables(), []
    for page in make_tables.pages():
        text = page.read_text(encoding="utf-8")
        found += [name for _, name, _ in make_tables.TABLE.findall(text)]
        assert make_tables.filled(text, tables) == text, f"{page.name}: python docs/make_tables.py"
    assert sorted(found) == sorted(tables)
    assert min(len(table.splitlines()) for table in tables.values()) > 2


@pytest.mark.parametrize("schema", [SingleConfig, ComparativeConfig])
def test_help_names_every_key_and_every_registered_name(schema):
    text = help_text(schema, ["run.py"])
    lanes = ("model_a", "model_b", "training_a", "training_b")
    keys = [key for key, _ in fields(schema) if key.partition(".")[0] not in lanes]
    assert all(f"  {key}=" in text or f", {key.rpartition('.')[2]}=" in text for key in keys)
    for _, registry in registries(schema):
        assert all(re.search(rf"[ (]{name}\b", text) for name in registry.names())


def test_what_a_name_means_can_be_asked_for(capsys):
    everything = describe([])
    for schema in (SingleConfig, ComparativeConfig):
        for _, registry in registries(schema):
            assert all(f"  {entry.name}({entry.usage})" in everything for entry in registry)
    main(["describe", "sharpness", "lr_cosine"])
    told = capsys.readouterr().out
    assert told.count("\n") == 5
    assert "[heavy]" in told
    with pytest.raises(SystemExit):
        main(["describe", "sharpnes"])
    assert "did you mean 'sharpness'" in capsys.readouterr().err


def test_every_registered_function_and_every_key_is_explained():
    for schema in (SingleConfig, ComparativeConfig):
        assert all(item.metadata["help"] for _, item in fields(schema))
        for _, registry in registries(schema):
            for entry in make_tables.built_in(registry):
                assert entry.description.endswith("."), entry.name
