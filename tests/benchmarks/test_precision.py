"""The comparison of precisions, without its runs."""

import pytest

from benchmarks import precision


def test_means_are_compared_by_the_spread_of_seeds():
    rows = {
        row.name: row for row in precision.table({"float32": [0.9, 0.92], "bfloat16": [0.8, 0.82]})
    }
    assert rows["float32: test accuracy, mean of 2 seeds"].value == pytest.approx(0.91)
    assert rows["bfloat16: standard deviation over seeds"].value == pytest.approx(0.02 / 2**0.5)
    # Two variances of 0.0002, over two seeds: an error of sqrt(0.0002).
    last = rows["the same in standard errors"]
    assert last.value == pytest.approx(0.1 / 0.0002**0.5)
    assert not last.met
