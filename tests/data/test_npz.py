"""Reading other people's .npz: whatever the bytes, arrays or one line."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_inputs import npz, npz_header
from fednas_jax.data.npz import read_npz
from fednas_jax.runtime.errors import UserError


def content(save=np.savez, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


PLAIN = content(images=np.arange(40.0), labels=np.arange(5))
PACKED = content(np.savez_compressed, images=np.arange(40.0), labels=np.arange(5))


def test_reads_what_is_asked_for_and_there(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content(a=np.arange(3), b=np.array([{}], object), c=np.ones(2)))
    arrays = read_npz(path, ("a", "c", "d"), required=("a",))
    assert sorted(arrays) == ["a", "c"]
    with pytest.raises(UserError, match="key 'd' is missing; 'd' is needed"):
        read_npz(path, ("d",), required=("d",))
    with pytest.raises(UserError, match="key 'b' holds pickled objects"):
        read_npz(path, ("b",))


@pytest.mark.parametrize("header", ["(" * 200, "__import__('os').getcwd()", "{'descr': '<i4'}"])
def test_a_header_that_somebody_wrote_by_hand(tmp_path, header):
    path = tmp_path / "a.npz"
    path.write_bytes(npz({"a": npz_header(header)}))
    with pytest.raises(UserError, match=r"key 'a' is damaged; a whole \.npz is needed"):
        read_npz(path, ("a",))


@settings(deadline=None, max_examples=150)
@given(
    whole=st.sampled_from([PLAIN, PACKED]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    end=st.integers(0, 2000),
)
def test_damaged_bytes_give_arrays_or_one_line(tmp_path_factory, whole, changes, end):
    damaged = bytearray(whole)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(damaged[:end])
    try:
        arrays = read_npz(path, ("images", "labels"), required=("images",))
    except UserError as error:
        message = str(error)
    else:
        message = ""
        # What the zip's checksum let through is what was written.
        np.testing.assert_array_equal(arrays["images"], np.arange(40.0))
    assert "\n" not in message
