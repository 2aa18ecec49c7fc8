"""Tasks: the inputs, targets and scores of a data set of images, text, speech, tables or others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any
"""An array, or dictionaries, tuples or lists of arrays."""


class Scores(NamedTuple):
    """Scores of each example, [B] each, summed over its units.

    A unit is what is predicted: the class of an image, or a token of a text.
    """

    loss: jax.Array
    """Float32; a cross-entropy is in nats."""
    correct: jax.Array
    """Float32: how many units are predicted correctly."""
    units: jax.Array
    """Int32: how many units the example has."""


class Task(NamedTuple):
    """A data set's inputs and targets, and the scores of outputs. All functions are pure."""

    example: Tree
    """Shape and type of one raw input, as `jax.ShapeDtypeStruct`, without the batch axis."""
    target: Tree
    """Shape and type of one target, as `jax.ShapeDtypeStruct`, without the batch axis."""
    prepare: Callable[[Tree], Tree]
    """Raw inputs [B, ...] -> inputs of the network in evaluation."""
    augment: Callable[[jax.Array, Tree], Tree]
    """(key, raw inputs [B, ...]) -> inputs of the network in training: prepared, and randomly
    augmented."""
    score: Callable[[Tree, Tree], Scores]
    """(outputs of the network [B, ...], targets [B, ...]) -> scores of each example."""


def prepared(task: Task) -> Tree:
    """Shape and type of the network's input for one example, with a batch axis of 1."""
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), task.example)
    return jax.eval_shape(task.prepare, batch)


def classification(logits: jax.Array, labels: jax.Array) -> Scores:
    """Scores by cross-entropy, of examples with one class each.

    Args:
      logits: [B, classes].
      labels: [B] int32.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return Scores(losses, correct, jnp.ones(labels.shape, jnp.int32))


def next_tokens(logits: jax.Array, tokens: jax.Array) -> Scores:
    """Scores by cross-entropy, of each token of a sequence.

    Args:
      logits: [B, T, vocabulary].
      tokens: [B, T] int32; padding is below 0, and is not scored.
    """
    present = tokens >= 0
    of_present = jnp.where(present, tokens, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, of_present)
    correct = (logits.argmax(axis=-1) == tokens) & present
    return Scores(
        jnp.where(present, losses, 0.0).sum(axis=1),
        correct.astype(jnp.float32).sum(axis=1),
        present.astype(jnp.int32).sum(axis=1),
    )
