"""The registry: names, parameters, messages, and modules of the user's own."""

import inspect
import sys
from typing import Annotated, Literal

import pytest

from dln.base.registry import Bounds, Registry, import_extensions
from dln.errors import ConfigError, ExtensionError


@pytest.fixture
def shapes():
    registry = Registry("shape", supplied=("canvas",))

    @registry.register("square", color="red")
    def square(canvas, side: float, label: str | None = None):
        """A square.

        With equal sides.
        """
        return (canvas, side, label)

    @registry.register("free")
    def free(**anything):
        return anything

    @registry.register("mapped")
    def mapped(canvas, params):
        return params

    @registry.register("completed", defaults={"size": 1.0, "kind": None})
    def completed(params):
        return params

    return registry


def test_registering_leaves_the_function_unchanged():
    def triangle():
        return 3

    registry = Registry("shape")
    assert registry.register("triangle")(triangle) is triangle
    assert registry.get("triangle").function is triangle
    assert registry.get("triangle")() == 3


def test_names_are_sorted_and_iterated_in_that_order(shapes):
    assert shapes.names() == ["completed", "free", "mapped", "square"]
    assert [entry.name for entry in shapes] == shapes.names()
    assert "square" in shapes
    assert "circle" not in shapes


def test_an_entry_describes_itself(shapes):
    entry = shapes.get("square")
    assert entry.description == "A square."
    assert entry.usage == "side, label=null"
    assert entry.marks == {"color": "red"}
    assert entry("canvas", 2.0) == ("canvas", 2.0, None)
    assert shapes.get("free").description == ""
    assert shapes.get("completed").usage == "size=1.0, kind=null"


def test_an_unknown_name_lists_what_exists(shapes):
    with pytest.raises(ConfigError) as caught:
        shapes.get("sqare", "drawing[2]")
    message = str(caught.value)
    assert message.startswith("drawing[2]: ")
    assert "'sqare'" in message
    assert "mean 'square'" in message
    assert all(name in message for name in shapes.names())


@pytest.mark.parametrize("name", [None, 3, ["square"], {"name": "square"}])
def test_names_of_other_types_are_unknown_too(name, shapes):
    with pytest.raises(ConfigError, match="unknown shape"):
        shapes.get(name)


def test_a_taken_name_is_refused_and_keeps_its_function(shapes):
    first = shapes.get("square").function
    with pytest.raises(ConfigError, match="'square' is registered already"):

        @shapes.register("square")
        def other_square(side): ...

    assert shapes.get("square").function is first


def test_the_same_function_defined_again_replaces_itself():
    """A notebook cell run twice."""
    registry = Registry("shape")

    def define(value):
        @registry.register("cell")
        def cell():
            return value

    define(1)
    define(2)
    assert registry.get("cell")() == 2


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("square", {"side": 1.5}),
        ("square", {"side": 2}),  # a whole number is a float
        ("square", {"side": 1.0, "label": None}),
        ("square", {"side": 1.0, "label": "x"}),
        ("free", {"whatever": object()}),
        ("mapped", {"whatever": 3}),
        ("completed", {}),
        ("completed", {"size": 2, "kind": "anything"}),
    ],
)
def test_parameters_that_fit(name, params, shapes):
    shapes.get(name).check(params, "here")


@pytest.mark.parametrize(
    ("name", "params", "fragments"),
    [
        ("square", {"sdie": 1.0}, ["here.sdie", "shape 'square'", "mean 'side'"]),
        ("square", {}, ["here.side", "needs"]),
        ("square", {"side": "long"}, ["here.side", "float", "'long'"]),
        ("square", {"side": True}, ["here.side", "float", "True"]),
        ("square", {"side": None}, ["here.side", "float"]),
        ("square", {"side": 1.0, "label": 3}, ["here.label", "str | null", "3"]),
        ("square", {"side": 1.0, "canvas": 3}, ["here.canvas", "no such parameter"]),  # the caller supplies it
        ("completed", {"sizes": 1.0}, ["here.sizes", "mean 'size'"]),
        ("completed", {"size": "big"}, ["here.size", "float", "'big'"]),
    ],
)
def test_parameters_that_do_not_fit(name, params, fragments, shapes):
    with pytest.raises(ConfigError) as caught:
        shapes.get(name).check(params, "here")
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3], [1.0, True, "1", None]),
        (float, [0, 1.5], [False, "1.5"]),
        (str, ["", "x"], [1, None]),
        (bool, [True, False], [0, "true"]),
        (int | None, [1, None], [1.5, "null"]),
        (Literal["train", "test"], ["train", "test"], ["validation", None]),
        (list[int], [[], [1, 2], (3,)], [[1.5], 3, "12"]),
        (list, [[], ["a"]], [3, {}]),
        (dict[int, int | None], [{}, {1: None}], [[], 3]),
        (object, [1, None, "x"], []),
        (Annotated[int | None, Bounds(least=1)], [1, None], [0, -1, 1.5, True]),
        (Annotated[float, Bounds(above=0, most=1)], [1, 0.5], [0, 0.0, 1.1, "1", None]),
    ],
)
def test_types_of_parameters(hint, good, bad):
    registry = Registry("shape")

    def typed(value): ...

    typed.__annotations__["value"] = hint
    registry.register("typed")(typed)
    entry = registry.get("typed")
    for value in good:
        entry.check({"value": value}, "here")
    for value in bad:
        with pytest.raises(ConfigError, match=r"here\.value"):
            entry.check({"value": value}, "here")


def test_a_number_out_of_bounds_is_told_what_they_are():
    registry = Registry("shape")

    @registry.register("bounded")
    def bounded(share: "Annotated[float | None, Bounds(above=0, most=1)]" = 0.5): ...

    with pytest.raises(ConfigError, match=r"here\.share: .*float \| null, above 0 and at most 1 here, not 2"):
        registry.get("bounded").check({"share": 2}, "here")


def test_types_are_checked_where_another_annotation_cannot_be_read():
    """As in modules that import names for type checkers only."""
    registry = Registry("shape", supplied=("canvas",))

    @registry.register("lazy")
    def lazy(canvas: "NotImported", side: "int | None" = None) -> "AlsoNotImported": ...  # noqa: F821

    registry.get("lazy").check({"side": 3}, "here")
    with pytest.raises(ConfigError, match=r"here\.side.*'long'"):
        registry.get("lazy").check({"side": "long"}, "here")


def test_defaults_become_parameters_of_their_type():
    registry = Registry("shape")

    @registry.register("typed", defaults={"count": 2, "name": "x", "anything": None})
    def typed(params): ...

    parameters = registry.get("typed").parameters
    assert parameters is not None
    assert {n: p.annotation for n, p in parameters.items() if n != "anything"} == {"count": int, "name": str}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())


# --- modules of the user's own ----------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that tests of this file import, and forget it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_extensions_are_imported_once(module):
    name = module("ext_counted.metrics", "import sys\nsys.ext_counter = getattr(sys, 'ext_counter', 0) + 1\n")
    import_extensions([name, name])
    import_extensions([name])
    assert sys.ext_counter == 1
    del sys.ext_counter


@pytest.mark.parametrize("name", ["ext_that_is_not_there", "os.no_such_part", "ext_no_package.metrics"])
def test_a_module_that_does_not_exist_is_a_fault_of_the_config(name):
    with pytest.raises(ConfigError, match=f"extensions: .*'{name}'"):
        import_extensions([name])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import ext_missing_dependency", ModuleNotFoundError),
        ("1 / 0", ZeroDivisionError),
        ("def f(:", SyntaxError),
    ],
)
def test_a_module_that_raises_is_a_fault_of_the_extension(text, cause, module):
    name = module(f"ext_raises_{cause.__name__.lower()}", text)
    with pytest.raises(ExtensionError, match=name) as caught:
        import_extensions([name])
    assert isinstance(caught.value.__cause__, cause)


def test_a_module_that_takes_a_taken_name_is_told_so(module):
    text = "from dln import model_metric\n@model_metric('weight_norm')\ndef mine(model):\n    return 0.0\n"
    with pytest.raises(ConfigError, match="'weight_norm' is registered already"):
        import_extensions([module("ext_duplicate", text)])
