"""What the readers of image files share."""

import io

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import image_table
from fednas_jax.data.image_table import Part
from fednas_jax.data.images import Picture


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["0", "10", "-3"], "i"),
        (["7", "007"], "U"),  # as numbers they would be one client
        (["1.0", "2"], "U"),
        (["12345678901", "2"], "U"),  # more than 32 bits
        (["cat", "1"], "U"),
        (["1_000", "2"], "U"),
        (["+1", "2"], "U"),
    ],
)
def test_a_column_is_numbers_only_where_no_two_texts_become_one(values, kind):
    found = image_table.column(values)
    assert found.dtype.kind == kind
    assert [str(one) for one in found] == values


def test_both_splits_are_views_of_one_array():
    def part(level, labels, client=None):
        content = io.BytesIO()
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(content, "PNG")
        return Part([Picture("", content.getvalue())] * len(labels), np.array(labels), client)

    found = image_table.arrays(part(3, [0, 1]), part(5, [2], np.array(["oslo"])), "here")
    assert {name: array.shape for name, array in found.items()} == {
        "images": (2, 8, 8, 1),
        "labels": (2,),
        "test_images": (1, 8, 8, 1),
        "test_labels": (1,),
        "test_client": (1,),
    }
    assert found["images"].base is found["test_images"].base is not None
    assert (found["images"] == 3).all()
    assert (found["test_images"] == 5).all()
