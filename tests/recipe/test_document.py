from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.errors import RecipeError
from rlvr.recipe.document import dump, parse, shown


def read(text: str):
    document = parse(text, lambda line: f"a.yaml:{line}")
    assert document.faults == ()
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1E-6", 1e-6),
        ("1.e3", 1000.0),
        ("+1e3", 1000.0),
        ("-1e3", -1000.0),
        (".5e1", 5.0),
        ("1.5e+3", 1500.0),
        ("3", 3),
        ("1_000", 1000),
        ("0x1f", 31),
        ("0.28", 0.28),
        (".inf", float("inf")),
        ("true", True),
        ("True", True),
        ("false", False),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("No", "No"),
        ("Y", "Y"),
        ("TRUE", "TRUE"),
        ("null", None),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("'1e-6'", "1e-6"),
        ("5 s", "5 s"),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    got = read(f"key: {text}")["key"]
    assert got == value
    assert type(got) is type(value)


def test_a_key_may_be_called_no_or_on() -> None:
    assert read("no: 1\non: 2\n1: 3\n") == {"no": 1, "on": 2, "1": 3}


def test_a_doubled_key_names_both_lines() -> None:
    document = parse("a:\n  b: 1\n  c: 2\n  b: 3\nd: 4\nd: 5\n", lambda line: f"a.yaml:{line}")
    assert [text for _, text in document.faults] == [
        "a.yaml:6: `d` is given twice, first on line 5; keep one of them",
        "a.yaml:4: `a.b` is given twice, first on line 2; keep one of them",
    ]


def test_merges_and_aliases_are_no_doubles() -> None:
    value = read("base: &base {<<: {x: 0, y: 1}, x: 2}\none: {<<: *base, y: 3}\ntwo: *base\nthree: *base\n")
    assert value["one"] == {"x": 2, "y": 3}
    assert value["two"] == value["three"] == {"x": 2, "y": 1}


def test_spots_know_line_and_text() -> None:
    spots = parse("a:\n  # hm\n  b: [1e-6,\n    x]\nc: 'q'\n", str).spots
    assert {key: (spot.line, spot.text) for key, spot in spots.items() if key} == {
        "a": (1, "b: [1e-6, x]"),
        "a.b": (3, "[1e-6, x]"),
        "a.b.0": (3, "1e-6"),
        "a.b.1": (4, "x"),
        "c": (5, "'q'"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a:\n\tb: 1\n",
            "a.yaml:2: not valid YAML: found a tab '\\t' before the first word; indent with spaces",
        ),
        ("a:\n  b: 1\n\tc: 2\n", "a.yaml:3: not valid YAML: found a tab"),
        ("a: b: c\n", "a.yaml:1: not valid YAML: mapping values are not allowed here; check the indentation"),
        (
            "a: 1\nb: [1,\nc: 2\n",
            "a.yaml:3: not valid YAML: while parsing a flow sequence that began on line 2:",
        ),
        ("a: 1\nb: @x\n", "a.yaml:2: not valid YAML: found character '@' that cannot start any token; put"),
        ("a: 1\nb\n", "a.yaml:2: not valid YAML: could not find expected ':'; a key needs a `:` after it"),
        ("a: 1\n---\nb: 1\n", "a.yaml:2: not valid YAML: expected a single document"),
        ("a: 1\nb: \x01\n", "a.yaml:2: a control character (0x1); remove it"),
        ("a: &x {b: *x}\n", "a.yaml:1: nested too deeply, or an alias holds itself"),
        ("[" * 5000, "a.yaml:1: nested too deeply"),
        ("a: !!python/name:os.system\n", "a.yaml:1: not valid YAML: could not determine a constructor"),
    ],
)
def test_what_is_not_yaml(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert str(caught.value).startswith(message)


def test_aliases_of_aliases_do_not_eat_the_memory() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(RecipeError, match="more than 10000 values"):
        read("\n".join(lines))


def test_a_mapping_is_no_key() -> None:
    [(line, fault)] = parse("ok: 1\n[a, b]: 1\n", lambda line: f"a.yaml:{line}").faults
    assert (line, fault) == (2, "a.yaml:2: `[a, b]` is no key; put it in quotes if it is a text")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
TRAPS = st.sampled_from(
    ["1e-6", "no", "on", "Off", "true", "2024-01-01", "null", "0x1", "1_0", "=", "<<", "1:30"]
)
VALUES = st.recursive(SCALARS | TRAPS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), VALUES, max_size=4))
def test_what_is_dumped_is_read_back(value: dict[str, object]) -> None:
    assert read(dump(value)) == value


@settings(max_examples=150, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_shown_as_it_is_read(value: float) -> None:
    assert read(f"a: {shown(value)}") == {"a": value}


def test_shown_is_as_people_write() -> None:
    assert [shown(value) for value in (1e-6, None, True, [0.9, 0.95], "x", 3e20)] == [
        "1e-6",
        "null",
        "true",
        "[0.9, 0.95]",
        "x",
        "3e20",
    ]
