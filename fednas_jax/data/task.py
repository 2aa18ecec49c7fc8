"""What a data set asks of a network, whatever its modality: images, text, speech, tables."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any
"""An array, or arrays in dictionaries, tuples or lists."""


class Scores(NamedTuple):
    """Sums over the units of each example that are scored, [B] each.

    A unit is an image's class, or a token of a text.
    """

    loss: jax.Array
    """Float32, in nats where it is a cross-entropy."""
    correct: jax.Array
    """Float32: how many units are predicted rightly."""
    units: jax.Array
    """Int32: how many the example has."""


class Task(NamedTuple):
    """A data set's inputs and targets, and how outputs are scored. All functions are pure."""

    example: Tree
    """Shape and type of one raw input, as `jax.ShapeDtypeStruct`, without the batch's axis."""
    target: Tree
    """Likewise of one target."""
    prepare: Callable[[Tree], Tree]
    """Raw inputs [B, ...] -> what the network reads."""
    augment: Callable[[jax.Array, Tree], Tree]
    """(key, raw inputs [B, ...]) -> what the network reads in training: prepared, and varied at
    random."""
    score: Callable[[Tree, Tree], Scores]
    """(outputs of the network [B, ...], targets [B, ...]) -> scores."""


def prepared(task: Task) -> Tree:
    """Shape and type of what the network reads of one example, with a batch's axis of 1."""
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), task.example)
    return jax.eval_shape(task.prepare, batch)


def classification(logits: jax.Array, labels: jax.Array) -> Scores:
    """Cross-entropy of one class an example.

    Args:
      logits: [B, classes].
      labels: [B] int32.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return Scores(losses, correct, jnp.ones(labels.shape, jnp.int32))


def next_tokens(logits: jax.Array, tokens: jax.Array) -> Scores:
    """Cross-entropy of each token of a sequence.

    Args:
      logits: [B, T, vocabulary].
      tokens: [B, T] int32; below 0 where there is none: padding, which is not scored.
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
