"""Generators of file contents: valid ones with one or two faults, and noise."""

import copy
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fednas_jax.config import FIELDS

NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([2**31, -(2**31) - 1, 2**63, 10**30, 10**400]),
    st.floats(),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
"""Any JSON value, including numbers of every size and NaN."""


def encoded(value: Any) -> bytes:
    """Encodes a value as Python's JSON does, including NaN."""
    return json.dumps(value).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of which up to three are changed, some are removed or inserted, or the end is
    missing."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    place = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(["whole", "cut", "gap", "more"]))
    if kind == "cut":
        del content[place:]
    elif kind == "gap":
        del content[place : place + draw(st.integers(1, 9))]
    elif kind == "more":
        content[place:place] = draw(st.binary(max_size=9))
    return bytes(content)


@st.composite
def damaged_json(draw: st.DrawFn, whole: Any) -> Any:
    """A value in which up to three entries are replaced, duplicated or removed."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        value = _with_fault(draw, value)
    return value


def _with_fault(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, list | dict) or not value or not draw(st.integers(0, 7)):
        return draw(JSON)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    kind = draw(st.sampled_from(["into", "into", "into", "gone", "twice", "other"]))
    if kind == "into":
        value[key] = _with_fault(draw, value[key])
    elif kind == "other":
        value[key] = draw(JSON)
    elif kind == "gone":
        del value[key]
    elif isinstance(value, list):
        value.insert(key, copy.deepcopy(value[key]))
    return value


def json_file(whole: Any) -> st.SearchStrategy[bytes]:
    """A file that should hold such a value."""
    return st.one_of(
        damaged_json(whole).map(encoded),
        damaged_json(whole).map(encoded),
        damaged_bytes(encoded(whole)),
        JSON.map(encoded),
        st.binary(max_size=40),
        st.sampled_from([b"", b"[" * 100_000, b"9" * 10_000, b'{"a": 1}' * 2, b"\xff\xfe{\x00}"]),
    )


def json_lines(whole: list[Any]) -> st.SearchStrategy[bytes]:
    """A file that should hold such values, one a line."""
    lines = damaged_json(whole).map(
        lambda value: (
            b"".join(encoded(v) + b"\n" for v in value)
            if isinstance(value, list)
            else encoded(value)
        )
    )
    written = b"".join(encoded(value) + b"\n" for value in whole)
    return st.one_of(lines, lines, damaged_bytes(written), st.binary(max_size=40))


# --- Config ---

_TEXTS = st.one_of(
    st.text(max_size=12),
    st.integers(-(10**25), 10**25).map(str),
    st.floats().map(str),
    st.sampled_from(["", "true", "FALSE", "0", "1e999", "-0", "1_000", "٣", "0x10", "1" * 5000]),
    st.sampled_from([str(field.default) for field in FIELDS]),
)
_NAMES = st.one_of(
    st.sampled_from([field.name for field in FIELDS]),
    st.sampled_from(["", ".", "optimizer", "optimizer.", ".rounds", "then_train.rounds", "a.b.c"]),
    st.text(max_size=12),
)
OVERRIDES = st.dictionaries(_NAMES, _TEXTS, max_size=5)
"""Fields of a config as the command line sets them."""

VALUES = st.dictionaries(st.sampled_from([field.name for field in FIELDS]), JSON, max_size=5)
"""Fields of a config as a config file sets them."""


# --- Tables and arrays ---

_CELLS = st.one_of(
    st.integers(-2, 10**11).map(str),
    st.sampled_from(["", " 3 ", "1.5", "client", "c0", "c1", '"', '"1"', "²", "\x00", "-0", "1e3"]),
    st.text(max_size=5),
)
_TABLE = b"client,c0,c1\n0,5,0\n1,2,3\n"
TABLES = st.one_of(
    damaged_bytes(_TABLE),
    st.lists(st.lists(_CELLS, max_size=4).map(",".join), max_size=4).map(
        lambda lines: "\n".join(["client,c0,c1", *lines]).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=60),
)
"""CSV files of client x class counts."""

_DTYPES = ["i4", "i8", "u8", "i2", "f4", "f8", "u1", "?", "U3", "S2", "c8", "M8[s]", "O"]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Small arrays of every type and rank, objects and empty ones among them."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    values = draw(st.lists(st.integers(-2, 12), min_size=1, max_size=4))
    return np.resize(np.array(values), shape).astype(draw(st.sampled_from(_DTYPES)))


def npz(members: Mapping[str, Any], compressed: bool = True) -> bytes:
    """An .npz file of arrays, in which objects are pickled; bytes are stored unchanged."""
    content = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", kind) as file:
        for name, value in members.items():
            array = io.BytesIO()
            if isinstance(value, bytes):
                array.write(value)
            else:
                np.save(array, value, allow_pickle=True)
            file.writestr(f"{name}.npy", array.getvalue())
    return content.getvalue()


def npz_file(whole: Mapping[str, np.ndarray]) -> st.SearchStrategy[bytes]:
    """A file that should hold these arrays."""
    member = st.one_of(
        arrays(), st.binary(max_size=20), st.sampled_from([npz_header(h) for h in _HEADERS])
    )
    faults = st.dictionaries(st.sampled_from([*whole, "more", "../up"]), member, max_size=2)
    gone = st.sets(st.sampled_from(list(whole)), max_size=1)
    kept = {compressed: npz(whole, compressed) for compressed in (True, False)}
    return st.one_of(
        st.builds(
            lambda f, g, c: npz({n: v for n, v in whole.items() if n not in g} | f, c),
            faults,
            gone,
            st.booleans(),
        ),
        damaged_bytes(kept[True]),
        damaged_bytes(kept[False]),
        st.binary(max_size=40),
    )


_HEADERS = (
    "{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,)}",
    "{'descr': '<i4', 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<i4', 'fortran_order': False}",
    "__import__('os').getcwd()",
    "(" * 200,
)


def npz_header(header: str) -> bytes:
    """An .npy file that has only a header, with the given text."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
