"""Scores of classes and of tokens by hand, and images as a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.data import task as tasks
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.data.task import Task
from fednas_jax.runtime.errors import UserError

LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]], np.float32)


def cross_entropy(logits: np.ndarray, label: int) -> float:
    return float(np.log(np.exp(logits.astype(np.float64)).sum()) - logits[label])


def test_one_class_an_example() -> None:
    found = tasks.classification(jnp.array(LOGITS), jnp.array([0, 0, 1]))
    expected = [cross_entropy(row, label) for row, label in zip(LOGITS, [0, 0, 1], strict=True)]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-6)
    assert found.correct.tolist() == [1, 0, 0]
    assert found.units.tolist() == [1, 1, 1]


def test_tokens_are_added_up_and_padding_is_not_scored() -> None:
    logits = jnp.array(np.stack([LOGITS, LOGITS[::-1]]))
    found = tasks.next_tokens(logits, jnp.array([[0, 1, -1], [1, -1, -1]]))
    first = cross_entropy(LOGITS[0], 0) + cross_entropy(LOGITS[1], 1)
    np.testing.assert_allclose(found.loss, [first, cross_entropy(LOGITS[2], 1)], rtol=1e-6)
    assert found.correct.tolist() == [2, 0]
    assert found.units.tolist() == [2, 1]


def test_images_are_normalised_and_augmented_as_the_functions_do() -> None:
    images = np.random.RandomState(0).randint(0, 256, (2, 4, 4, 1)).astype(np.uint8)
    augmentation = Augmentation(1, True, 2, (0.4,), (0.2,))
    task, key = vision.task(images[0], augmentation), jax.random.key(1)
    np.testing.assert_array_equal(task.prepare(images), normalize(images, (0.4,), (0.2,)))
    np.testing.assert_array_equal(task.augment(key, images), augment(key, images, augmentation))
    assert vision.image_shape(task, "it") == (4, 4, 1)
    assert (task.example.shape, task.example.dtype) == ((4, 4, 1), np.uint8)


def test_what_reads_images_refuses_other_inputs() -> None:
    tokens = Task(
        {"tokens": jax.ShapeDtypeStruct((7,), jnp.int32)},
        jax.ShapeDtypeStruct((7,), jnp.int32),
        lambda x: x,
        lambda key, x: x,
        tasks.next_tokens,
    )
    assert tasks.prepared(tokens)["tokens"].shape == (1, 7)
    with pytest.raises(UserError, match=r"^cnn is for images \[H, W, C\], not for inputs of \[7\]"):
        vision.image_shape(tokens, "cnn")
