"""The codec: data goes through whole, and whatever else is sent is refused, quickly."""

import contextlib
import json
import time as clock
from collections import Counter, OrderedDict, deque, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.sandbox.codec import FRAME_BYTES, CodecError, decode, encode

EXACT = (
    *(type(None), bool, int, float, str, list, dict, tuple, set, frozenset),
    *(bytes, bytearray, complex, range, deque, Fraction, Decimal, type),
)
Point = namedtuple("Point", "x y")


class Color(IntEnum):
    RED = 1


def refuse(value):
    raise CodecError(f"{type(value).__name__} is no data")


def adopt(tag, content):
    return [tag, content]


def is_exact(value):
    if type(value) in (list, tuple, set, frozenset, deque):
        return all(map(is_exact, value))
    if type(value) is dict:
        return all(is_exact(k) and is_exact(v) for k, v in value.items())
    return type(value) in EXACT


atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = atoms | st.tuples(atoms, atoms) | st.frozensets(atoms, max_size=3)
values = st.recursive(
    keys | st.fractions() | st.decimals(allow_nan=False) | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_data_goes_through_whole(value):
    again = decode(encode(value, refuse), adopt)
    assert again == value
    assert type(again) is type(value)
    assert is_exact(again)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*"tdsfbacriqFDThox"]) | st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=12,
)


@given(junk.map(lambda message: json.dumps(message).encode()) | st.binary(max_size=40))
def test_whatever_is_sent_it_is_data_or_refused(data):
    with contextlib.suppress(CodecError):
        assert is_exact(decode(data, adopt))


def test_builtin_types_are_the_receivers_own_and_no_others_go_through():
    assert decode(encode([int, {"k": str}], refuse), adopt) == [int, {"k": str}]
    for value in (type, object, Color, Point, len):
        with pytest.raises(CodecError):
            encode(value, refuse)
    with pytest.raises(CodecError):
        decode(b'{"T": "type"}', adopt)


def test_dates_go_through_whole():
    zone = timezone(timedelta(hours=2))
    sent = [date(2020, 2, 29), datetime(1, 2, 3, 4, 5, 6, 7), datetime(2020, 1, 1, tzinfo=zone), time(1, 2)]
    sent += [timedelta(days=-1, microseconds=3)]
    again = decode(encode(sent, refuse), adopt)
    assert again == sent
    assert [type(each) for each in again] == [type(each) for each in sent]


def test_subclasses_leave_their_methods_behind():
    sent = [Counter("aab"), OrderedDict(a=1), Point(1, 2), Color.RED, True]
    assert decode(encode(sent, refuse), adopt) == [{"a": 2, "b": 1}, {"a": 1}, (1, 2), 1, True]
    assert is_exact(decode(encode(sent, refuse), adopt))


@pytest.mark.parametrize(
    "message",
    [
        {"d": [[k * (2**61 - 1), 0] for k in range(1, 50000)]},
        {"s": [k * (2**61 - 1) for k in range(1, 50000)]},
        {"D": "sNaN"},
        {"D": "1e5000000"},
        {"D": "1" * 10**5},
        {"D": {"i": "0x" + "f" * 400000}},
        {"i": "f" * 400000},
        {"F": ["1e7000000"]},
        {"F": ["1e7000000", 1]},
        {"F": [{"D": "1e100"}, 1]},
        {"F": [{"i": "f" * 5000}, {"i": "f" * 5000}]},
        {"F": [True, 1]},
        *({tag: {"r": [0, 10**15, 1]}} for tag in "tdsfqcrF"),
        {"t": "text"},
        {"c": ["1e9"]},
        {"c": [{"r": [0, 1, 1]}, 1]},
        {"Y": "never"},
        {"E": [10**20]},
        {"F": [1, 0]},
        {"r": [0, 1, 0]},
        {"s": [[1]]},
        {"t": 3},
        {"i": "1z"},
        {"x": 1},
        {},
        {"t": [], "s": []},
    ],
)
def test_what_cannot_be_made_is_refused_quickly(message):
    started = clock.process_time()
    with pytest.raises(CodecError):
        decode(json.dumps(message).encode(), adopt)
    assert clock.process_time() - started < 2


def test_depth_and_size_are_bounded():
    deep = []
    for _ in range(10**5):
        deep = [deep]
    for value in (deep, "x" * (FRAME_BYTES + 1)):
        with pytest.raises(CodecError):
            encode(value, refuse)
    for data in (b"[" * 10**6, b"[" * 500 + b"]" * 500, b'{"t":' * 500, b"9" * 10**5):
        with pytest.raises(CodecError):
            decode(data, adopt)
