"""Digests of examples: what changes them and what does not."""

import numpy as np
import pytest

from fednas_jax.data.fingerprints import image_digests, sha256, sha256_of_all

INPUTS = np.arange(24, dtype=np.uint8).reshape(3, 2, 2, 2)


@pytest.mark.parametrize(
    ("targets", "other"),
    [
        (np.array([0.2, 0.4, 0.6]), np.array([0.3, 0.4, 0.6])),
        (np.zeros((3, 2), np.int32), np.array([[0, 0], [0, 1], [0, 0]], np.int32)),
        (np.array([0, 1, 2]), np.array([0, 2, 1])),
    ],
)
def test_other_targets_have_another_digest(targets: np.ndarray, other: np.ndarray) -> None:
    for digest in (sha256, lambda x, y: sha256_of_all([(x, y)])):
        assert digest(INPUTS, targets) == digest(INPUTS, targets.copy())
        assert digest(INPUTS, targets) != digest(INPUTS, other)


def test_labels_of_every_integer_type_are_the_same() -> None:
    labels = np.array([0, 1, 2])
    found = {sha256(INPUTS, labels.astype(kind)) for kind in (np.int8, np.int32, np.int64)}
    assert len(found) == 1


def test_sequences_have_digests_as_images_have() -> None:
    tokens = np.array([[1, 2], [1, 2], [2, 1]], np.int32)
    first, second, third = image_digests(tokens)
    assert first == second != third
