"""Help and README tables are what the registries say, and cannot drift."""

import re
from pathlib import Path

import pytest

from dln.__main__ import main
from dln.cli.help import describe, help_text, markdown_table, registries
from dln.config import ComparativeConfig, SingleConfig, fields

README = (Path(__file__).parents[2] / "README.md").read_text()


def built_in(registry):
    """The registry without what other tests registered in this process."""
    clean = type(registry)(registry.kind)
    clean._entries = {e.name: e for e in registry if e.function.__module__.startswith("dln.")}
    return clean


@pytest.mark.parametrize("schema", [SingleConfig, ComparativeConfig])
def test_the_readme_has_the_table_of_every_registry(schema):
    for title, registry in registries(schema):
        table = markdown_table(built_in(registry))
        assert len(table.splitlines()) > 2
        assert table in README, f"{title}: README.md should hold\n{table}"


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
            for entry in built_in(registry):
                assert entry.description.endswith("."), entry.name
