"""Lines of text for people."""

import pytest

from fednas_jax.runtime.errors import listed


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (2, "0, 1"),
        (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (12, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_many_things_are_not_all_listed(number: int, shown: str) -> None:
    assert listed(range(number)) == shown
