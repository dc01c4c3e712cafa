import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.problems.template import boxed, fill, names


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{a}", {"a": 27.0}, 27.0),
        ("{a}", {"a": ["1", "2"]}, ["1", "2"]),
        ("{a}", {"a": False}, False),
        ("{a} and {b}", {"a": "x", "b": 3}, "x and 3"),
        ("{nums} to {target}", {"nums": [4, 7], "target": 28}, "[4, 7] to 28"),
        ("{a.b}", {"a": {"b": 1}}, 1),
        ("{a.1}", {"a": ["x", "y"]}, "y"),
        ("{a.b}", {"a.b": "the field itself", "a": {"b": 1}}, "the field itself"),
        ("{Correct Answer}", {"Correct Answer": "C"}, "C"),
        ("{{a}} {a}", {"a": "x"}, "{a} x"),
        (r"{q} in \boxed{}", {"q": "why"}, r"why in \boxed{}"),
        ("{q}", {"q": r"\frac{1}{2} {q} {0}"}, r"\frac{1}{2} {q} {0}"),
        ("Q: {q}", {"q": "{x} {{y}}"}, "Q: {x} {{y}}"),
        ("{s|boxed}", {"s": r"so \boxed{\frac{1}{2}}."}, r"\frac{1}{2}"),
        ("{s|sentence} {t}", {"s": "Ana has 3", "t": "Why?"}, "Ana has 3. Why?"),
    ],
)
def test_fill(template, row, expected):
    assert fill(template, row) == expected


@pytest.mark.parametrize(
    ("template", "row", "reason"),
    [
        ("{anwser}", {"answer": 1}, "no field `anwser`; did you mean `answer`"),
        ("{a.b}", {"a": 5}, "no field `a.b`"),
        ("{a.2}", {"a": [1, 2]}, "no field `a.2`"),
        ("{a}", {"a": None}, "`a` is null"),
        ("{a.__class__}", {"a": "x"}, "no field"),
        ("{s|boxed}", {"s": "none here"}, "holds no complete"),
        ("{s|boxed}", {"s": r"cut \boxed{1"}, "holds no complete"),
        ("{s|boxd}", {"s": "x"}, "no such filter; did you mean `boxed`"),
        ("{s|boxed}", {"s": 5}, "is no text"),
    ],
)
def test_fill_says_what_is_missing(template, row, reason):
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        fill(template, row)


def test_the_last_box_counts():
    assert boxed(r"\boxed{1} no, \boxed{2}") == "2"
    assert names("{a} {{b}} {c.d|boxed}") == ["a", "c.d"]


@given(st.text())
def test_data_passes_through_untouched(text):
    assert fill("{q}", {"q": text}) == text
    assert fill("<{q}>", {"q": text}) == f"<{text}>"
