"""Configurations: what a file leaves out is completed, what was typed is read as its field's type, faults are named."""

import sys
import types
from collections.abc import Mapping, Sequence
from typing import Literal

import ml_collections
import pytest

from jaxmoust.config import (
    REQUIRED,
    Choice,
    Field,
    Text,
    choose,
    complete,
    fields,
    merge,
    plain,
    python_text,
    read_config,
    typed,
    unpack,
)

# --- files -----------------------------------------------------------------------------------------------------------


def write(path, text):
    path.write_text(text)
    return str(path)


def test_read_config_hands_over_the_argument(tmp_path):
    file = write(tmp_path / "config.py", "def get_config(arg=''):\n    return dict(arg=arg, sizes=[1, [2]])\n")
    assert read_config(f"{file}:a=b,c") == {"arg": "a=b,c", "sizes": (1, (2,))}
    assert read_config(file)["arg"] == ""


def test_read_config_refuses_words_that_the_file_does_not_know(tmp_path):
    text = "WORDS = ('quick|small', 'share=')\ndef get_config(arg=''):\n    return dict(arg=arg)\n"
    file = write(tmp_path / "config.py", text)
    assert read_config(f"{file}:small,share=0.5")["arg"] == "small,share=0.5"
    for arg in ("bogus", "quick,small", "share", "quick,quick"):
        with pytest.raises(ValueError, match="expected quick or small, share="):
            read_config(f"{file}:{arg}")


CONFIG_WITH_NEIGHBOURS = """
import neighbour

def get_config(arg=""):
    import later
    return {"a": neighbour.NAME, "b": later.B}
"""


def test_configuration_imports_the_files_beside_it_and_leaves_no_trace(tmp_path, monkeypatch):
    """Two folders with a file of one name: each configuration reads its own, and as it is now."""
    monkeypatch.setitem(sys.modules, "neighbour", types.ModuleType("neighbour"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before, path = dict(sys.modules), list(sys.path)
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "neighbour.py").write_text(f"NAME = {folder!r}")
        (tmp_path / folder / "later.py").write_text("B = 1")
        file = write(tmp_path / folder / "config.py", CONFIG_WITH_NEIGHBOURS)
        assert read_config(file) == {"a": folder, "b": 1}
    (tmp_path / "one" / "neighbour.py").write_text("NAME = 'changed since'")
    assert read_config(str(tmp_path / "one" / "config.py"))["a"] == "changed since"
    assert sys.modules["neighbour"] is before["neighbour"] and "later" not in sys.modules and sys.path == path
    assert not list(tmp_path.rglob("__pycache__")) and not sys.dont_write_bytecode


def test_read_config_refuses_what_is_no_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"No configuration file .*none\.py.*configs/"):
        read_config(str(tmp_path / "none.py"))
    with pytest.raises(ValueError, match=r"defines no get_config"):
        read_config(write(tmp_path / "empty.py", ""))
    with pytest.raises(ValueError, match=r"get_config returns None, expected"):
        read_config(write(tmp_path / "nothing.py", "def get_config(arg=''):\n    pass\n"))
    with pytest.raises(ValueError, match=r"is no Python file"):
        read_config(write(tmp_path / "config.txt", ""))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_config(:\n", r"config\.py, line 1: .*: def get_config\(:"),
        ("import nowhere\n", r"config\.py, line 1: import nowhere\nModuleNotFoundError: No module named 'nowhere'"),
        ("def get_config(arg=''):\n    return {}['a']\n", r"line 2: return \{\}\['a'\]\nKeyError: 'a'"),
        ("def get_config(arg=''):\n    return int('x')\n", r"line 2: return int\('x'\)\nValueError: invalid literal"),
        ("def get_config():\n    return {}\n", r"config\.py: TypeError: get_config\(\) takes 0"),
        ("def get_config(arg=''):\n    raise ValueError('say 1 or 2')\n", r"^say 1 or 2$"),
    ],
)
def test_mistake_in_a_file_is_told_with_its_line_and_pythons_words(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_config(write(tmp_path / "config.py", text))


def test_plain_leaves_dicts_and_tuples_alone():
    config = ml_collections.ConfigDict({"a": {"b": [1, {"c": 2}]}, "d": ()})
    assert plain(config) == {"a": {"b": (1, {"c": 2})}, "d": ()}
    assert type(plain(config)["a"]) is dict


# --- values ----------------------------------------------------------------------------------------------------------

Stages = Sequence[tuple[float, Mapping[str, float]]]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "3", 3),
        (int, "-3", -3),
        (int, "1e3", 1000),
        (int, "3.0", 3),
        (float, "3", 3.0),
        (float, "-1e-3", -0.001),
        (bool, "true", True),
        (bool, "0", False),
        (str, "", ""),
        (str, "None", "None"),
        (str, "a, 'b' = \"c\"", "a, 'b' = \"c\""),
        (float | None, "none", None),
        (float | None, "2", 2.0),
        (int | None, "null", None),
        (float | str, "1/C", "1/C"),
        (float | str, "0.5", 0.5),
        (str | tuple[str, ...], "runs/edm", "runs/edm"),
        (str | tuple[str, ...], "runs/edm,runs/ddpm", ("runs/edm", "runs/ddpm")),
        (str | tuple[str, ...], "('runs/edm',)", ("runs/edm",)),
        (tuple[int, ...], "1,2", (1, 2)),
        (tuple[int, ...], "(1, 2)", (1, 2)),
        (tuple[int, ...], "[]", ()),
        (tuple[int, ...], "", ()),
        (tuple[int, ...], "-1,", (-1,)),
        (tuple[str, ...], "0,1", ("0", "1")),
        (tuple[str, ...], "('red, small', 'it''s')", ("red, small", "its")),
        (tuple[str, ...], "it's,ok", ("it's", "ok")),
        (tuple[int, str], "1,a", (1, "a")),
        (Sequence[str], "edm,ddpm", ("edm", "ddpm")),
        (Mapping[str, float], "real=0.5,edm=0.5", {"real": 0.5, "edm": 0.5}),
        (Mapping[str, float | str], "edm=scores", {"edm": "scores"}),
        (Mapping[str, float], "{'real': 1}", {"real": 1.0}),
        (Mapping[str, float] | None, "none", None),
        (Stages, "((0.5, {'edm': 1}), (0.5, {'real': 1}))", ((0.5, {"edm": 1.0}), (0.5, {"real": 1.0}))),
        (Literal["a", "b"], "b", "b"),
        (Literal["", "b"], "", ""),
        (Literal[1, 2], "2", 2),
    ],
)
def test_typed_text_is_read_as_its_fields_type(kind, text, value):
    read = complete({"x": Text(text)}, {"x": Field(type=kind)})["x"]
    assert read == value and type(read) is type(value)
    assert complete({"x": read}, {"x": Field(type=kind)})["x"] == value  # a complete value is complete


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, Text("three"), "config.x is three, expected a whole number."),
        (int, Text("1.5"), "expected a whole number"),
        (int, Text("1e400"), "expected a whole number"),
        (int, Text("inf"), "expected a whole number"),
        (int, Text(""), "config.x is empty, expected a whole number."),
        (int, True, "config.x is True, expected a whole number."),
        (int, "3", "config.x is '3', expected a whole number."),
        (float, Text("nan"), "config.x is nan, expected a number."),
        (float, float("inf"), "config.x is inf"),
        (float, None, "config.x is None, expected a number."),
        (bool, Text("2"), "expected True or False"),
        (bool, 1, "expected True or False"),
        (str, 3, "config.x is 3, expected a text."),
        (float | None, Text("much"), "expected a number or None."),
        (tuple[int, ...], Text("1,b"), "expected a list by commas, each a whole number."),
        (tuple[int, ...], 3, "expected a list by commas"),
        (tuple[float, float], (1.0,), "expected a list by commas, each a number."),
        (Sequence[str], 3, "expected a list by commas, each a text."),
        (Mapping[str, float], Text("real"), "config.x is real, expected pairs"),
        (Mapping[str, float], Text("{" * 500), "expected pairs, such as real=0.5,edm=0.5."),
        (Mapping[str, float], {"edm": Text("half")}, "expected pairs"),
        (Literal["base", "unused"], Text("bse"), "expected one of base, unused. Did you mean 'base'?"),
    ],
)
def test_value_of_another_type_is_refused_with_what_is_allowed(kind, value, said):
    with pytest.raises(ValueError) as error:
        complete({"x": value}, {"x": Field(type=kind)})
    assert said in str(error.value)


def test_text_where_no_type_says_is_a_python_value_or_itself():
    guess = {text: complete({"x": Text(text)}, {"x": Field()})["x"] for text in ("3", "[1, 'a']", "True", "a b", "(")}
    assert guess == {"3": 3, "[1, 'a']": (1, "a"), "True": True, "a b": "a b", "(": "("}


# --- the command line's words ----------------------------------------------------------------------------------------


def test_typed_words_are_nested_and_the_last_counts():
    words = ["--config.a.b=1", "--config.a.c==x", "--config.d=", "--config.a.b=2"]
    assert typed(words) == {"a": {"b": "2", "c": "=x"}, "d": ""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config.a"], "gives no value. Write --config.a=VALUE"),
        (["--config.=1"], "gives no value"),
        (["--config.a=1", "--config.a.b=2"], "'a' was given a value before"),
        (["--config.a.b=2", "--config.a=1"], "fields of 'a' were given before"),
        (["--config.a[0]=1"], "one element cannot be set. Give all of them: --config.a=A,B,C"),
    ],
)
def test_typed_words_that_say_nothing_or_two_things_are_refused(words, said):
    with pytest.raises(ValueError) as error:
        typed(words)
    assert said in str(error.value)


# --- sections --------------------------------------------------------------------------------------------------------


def small(width: int, depth: int = 2, stages: Mapping[str, float] | None = None) -> tuple:
    """A network.

    Args:
        width: how wide it is; at least 1. depth: how deep.
        stages: parts of it. Not many.
    Returns: nothing of interest.
    """
    return width, depth, stages


def large(width: int = 64) -> int:
    """Another one."""
    return width


SCHEMA = {
    "seed": Field(0, int, "of everything"),
    "model": Choice({"small": small, "large": large}, "small", shared={"dtype": Field("float32", str)}),
    "data": {"path": Field(type=str, doc="where it lies"), "n": Field(1, int)},
}


def test_fields_are_a_signatures_names_defaults_types_and_docs():
    assert fields(small)["width"] == Field(REQUIRED, int, "how wide it is; at least 1.")
    assert fields(small, skip=("width",))["depth"] == Field(2, int, "how deep.")
    assert list(fields(small, only=("stages",))) == ["stages"] and fields(small)["stages"].doc.startswith("parts of it")


def test_complete_gives_every_field_in_the_order_of_the_schema():
    config = {"model": {"width": 8.0}, "data": {"path": "x"}}
    assert complete(config, SCHEMA) == {
        "seed": 0,
        "model": {"name": "small", "width": 8, "depth": 2, "stages": None, "dtype": "float32"},
        "data": {"path": "x", "n": 1},
    }
    assert complete(complete(config, SCHEMA), SCHEMA) == complete(config, SCHEMA)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sed": 1}, "config has no field 'sed'. Did you mean 'seed'? Allowed: seed, model, data."),
        ({"data": {"path": "", "N": 1, "o": 2}}, "config.data has no field 'N', 'o'."),
        ({"data": {}}, "config.data.path is missing: where it lies."),
        ({"model": {"width": 1}}, "config.data.path is missing"),
        ({"data": Text("x")}, "config.data is 'x'; it has fields: set config.data.FIELD."),
        ({"seed": {"x": Text("3")}}, "config.seed is {'x': '3'}, expected a whole number."),
        (
            {"model": {"name": Text("smal")}},
            "is 'smal', expected one of small, large. Did you mean 'small'?",
        ),
        ({"model": {"name": "large", "depth": 1}}, "config.model has no field 'depth'."),
        ({"model": {}}, "config.model.width is missing"),
    ],
)
def test_complete_names_what_is_unknown_or_missing(config, said):
    with pytest.raises(ValueError) as error:
        complete({"model": {"width": 1}, **config}, SCHEMA)
    assert said in str(error.value)


def test_merge_replaces_what_differs_and_keeps_the_rest():
    config = {"seed": 1, "data": {"path": "x", "n": 2}}
    assert merge(config, {"data": {"n": 3}}, SCHEMA) == {"seed": 1, "data": {"path": "x", "n": 3}}
    assert config == {"seed": 1, "data": {"path": "x", "n": 2}}


def test_merge_of_another_name_keeps_only_what_a_section_has_under_any_name():
    """Its other fields are those of what the file named: under the new name some mean nothing, or something else."""
    config = {"model": {"name": "small", "width": 8, "dtype": "bfloat16"}}
    merged = merge(config, {"model": {"name": "large"}}, SCHEMA)
    assert merged == {"model": {"name": "large", "dtype": "bfloat16"}}
    assert merge(config, {"model": {"name": "small"}}, SCHEMA) == config
    assert merge({"model": {"width": 8}}, {"model": {"name": "small"}}, SCHEMA)["model"]["width"] == 8


def test_merge_replaces_a_mapping_unless_one_of_its_keys_was_typed():
    config = {"model": {"name": "small", "stages": {"a": 0.5, "b": 0.5}}}
    assert merge(config, {"model": {"stages": {"c": 1.0}}}, SCHEMA)["model"]["stages"] == {"c": 1.0}
    one = merge(config, typed(["--config.model.stages.a=0.6"]), SCHEMA)
    assert one["model"]["stages"] == {"a": "0.6", "b": 0.5}
    whole = merge(config, typed(["--config.model.stages=c=1"]), SCHEMA)
    assert complete(whole["model"], SCHEMA["model"].fields("small", "") | {"width": Field(1)})["stages"] == {"c": 1.0}


def test_unpack_names_unknown_and_missing_fields():
    def make(needed, given, optional=1):
        return needed, given, optional

    assert unpack("part", make, {"needed": 1}, given=2) == (1, 2, 1)
    with pytest.raises(ValueError, match=r"config\.part has unknown fields \['bogus'\] and lacks \['needed'\]"):
        unpack("part", make, {"bogus": 1}, given=2)
    with pytest.raises(ValueError, match=r"unknown fields \['given'\]"):
        unpack("part", make, {"needed": 1, "given": 3}, given=2)


@pytest.mark.parametrize("values", [{"name": "bogus"}, {}, {"name": None}])
def test_choose_refuses_a_name_that_is_not_in_the_table(values):
    with pytest.raises(ValueError, match=r"config\.part\.name is .*, expected one of one, two"):
        choose("part", {"two": 2, "one": 1}, values)


def test_printed_configuration_is_a_file_that_completes_to_the_same(tmp_path):
    schema = {**SCHEMA, "arms": Field((), tuple), "tables": {"edm-2.lambda": {"n": Field(1, int)}}}
    model = {"width": 8, "stages": {"it's": 0.1}}
    arms = ({"name": "a\n", "data": {"n": 1}}, {"name": 'say "b"'})
    config = complete({"model": model, "data": {"path": 'C:\\x"""'}, "arms": arms}, schema)
    text = python_text(config, schema, 'What `jaxmoust fit --config.data.path=C:\\x"""` runs')
    assert complete(read_config(write(tmp_path / "printed.py", text)), schema) == config
    assert "'n': 1,\n" in text and "'path': 'C:\\\\x\"\"\"',  # where it lies\n" in text
