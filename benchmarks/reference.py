"""Our side of the comparison with the PyTorch reference: seeded inputs, and our results.

Inputs are drawn with the names and shapes of the reference and then converted, so that they do not
change when the package changes the layout of its weights. All values are float64.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.pytorch import weights
from fednas_jax.algorithms.fednas import milenas
from fednas_jax.spaces.darts.supernet import Supernet

Leaves = dict[str, np.ndarray]
"""A tree, flat: "params/cell_0/preprocess0" and so on; batches as "train/images" and so on."""
COLLECTIONS = ("params", "arch", "batch_stats")
NUM_CLASSES = 10
STEPS = 5
ORDERS = ("joint", "weights_first", "alpha_first")
OPTIONS: dict[str, float] = {
    "momentum": 0.9,
    "weight_decay": 3e-4,
    "clip_norm": 1.0,  # below the norms that occur, so that it counts
    "lambda_train": 0.7,
    "lambda_valid": 0.4,
    "arch_learning_rate": 3e-3,
    "arch_beta1": 0.5,
    "arch_beta2": 0.999,
    "arch_weight_decay": 1e-3,
}
LEARNING_RATE = 0.025


class Case(NamedTuple):
    """A size to compare at."""

    init_channels: int
    layers: int
    side: int
    batch_size: int

    def __str__(self) -> str:
        return f"C={self.init_channels} L={self.layers} {self.side}x{self.side} B={self.batch_size}"


SMALL = Case(4, 3, 8, 4)
LARGER = Case(4, 6, 16, 4)
"""Its first two cells are alike, and so one loop; at three layers no two are. On smaller images its
last cells would average whole maps, to means that are zero but for rounding."""


def draw(case: Case, seed: int = 0) -> Leaves:
    """Weights, alphas and five batches of each kind; running moments as they start.

    From `np.random.RandomState(seed)`, for the reference's tensors in the order of their names:
    weights of convolutions and of the classifier from U(+-1/sqrt(fan in)), scales from U(0.5, 1.5),
    biases from U(+-0.5), alphas from N(0, 1); then images from N(0, 1) and labels.
    """
    shapes = jax.eval_shape(
        lambda key: Supernet(NUM_CLASSES, case.init_channels, case.layers).init(
            key, jnp.zeros((1, case.side, case.side, 3)), train=False
        ),
        jax.random.key(0),
    )
    empty = {name: np.zeros(x.shape) for name, x in flatten(shapes).items()}
    rng = np.random.RandomState(seed)
    tensors = weights.to_torch(empty, case.layers)
    drawn = {name: _draw(rng, name, tensors[name].shape) for name in sorted(tensors)}
    leaves = weights.from_torch(drawn, case.layers)
    for part in ("train", "valid"):
        shape = (STEPS, case.batch_size, case.side, case.side, 3)
        leaves[f"{part}/images"] = rng.standard_normal(shape)
        leaves[f"{part}/labels"] = rng.randint(0, NUM_CLASSES, shape[:2])
    return leaves


def _draw(rng: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("running_mean"):
        return np.zeros(shape)
    if name.endswith("running_var"):
        return np.ones(shape)
    if name.startswith("alphas."):
        return rng.standard_normal(shape)
    if len(shape) > 1:
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        return rng.uniform(-bound, bound, shape)
    return rng.uniform(-0.5, 0.5, shape) + (1.0 if name.endswith("weight") else 0.0)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree as leaves by their path."""
    return dict(flatten_dict(dict(tree), sep="/"))


def variables(leaves: Leaves) -> dict[str, Any]:
    """The package's trees from leaves."""
    chosen = {n: jnp.asarray(x) for n, x in leaves.items() if n.partition("/")[0] in COLLECTIONS}
    return dict(unflatten_dict(chosen, sep="/"))


def batch(leaves: Leaves, part: str, number: int) -> tuple[jax.Array, jax.Array]:
    """Images [B, H, W, C] and labels [B] of a step."""
    images, labels = (leaves[f"{part}/{name}"][number] for name in ("images", "labels"))
    return jnp.asarray(images), jnp.asarray(labels)


def loss_function(supernet: Supernet) -> milenas.LossFunction:
    """The loss of a batch; its metrics are the loss and the logits."""

    def loss(params: Any, arch: Any, batch_stats: Any, batch: Any, wanted: Any) -> Any:
        images, labels = batch
        trees = {"params": params, "arch": arch, "batch_stats": batch_stats}
        logits, new = supernet.apply(
            trees, images, train=True, needs_weight_gradients=wanted, mutable=["batch_stats"]
        )
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, (new["batch_stats"], (value, logits))

    return loss


def gradients(
    case: Case, leaves: Leaves, jit: Callable[..., Any], **options: Any
) -> dict[str, np.ndarray]:
    """Logits, loss, gradients of weights and alphas, and moments after one train batch.

    Args:
      case: the size.
      leaves: from `draw`.
      jit: how to compile.
      options: of the supernet.
    """
    loss = loss_function(Supernet(NUM_CLASSES, case.init_channels, case.layers, **options))
    trees = variables(leaves)
    (value, (batch_stats, (_, logits))), (of_weights, of_alphas) = jit(
        jax.value_and_grad(loss, (0, 1), has_aux=True)
    )(*(trees[name] for name in COLLECTIONS), batch(leaves, "train", 0), True)
    found = {
        "logits": logits,
        "loss": value,
        **flatten({"gradients": {"params": of_weights, "arch": of_alphas}}),
        **flatten({"batch_stats": batch_stats}),
    }
    return {name: np.asarray(x) for name, x in found.items()}


def search(
    case: Case, leaves: Leaves, order: str, jit: Callable[..., Any], **options: Any
) -> dict[str, np.ndarray]:
    """Losses [5, 2], and weights, alphas and moments after five local steps of an order."""
    loss = loss_function(Supernet(NUM_CLASSES, case.init_channels, case.layers, **options))
    settings = milenas.SearchOptions(order=order, **OPTIONS)
    trees = variables(leaves)
    state = milenas.start(trees["params"], trees["arch"], trees["batch_stats"], settings)
    step = jit(functools.partial(milenas.local_step, loss, settings))
    losses = []
    for number in range(STEPS):
        batches = (batch(leaves, part, number) for part in ("train", "valid"))
        state, metrics = step(state, *batches, LEARNING_RATE)
        losses.append([value for value, _ in metrics])
    after = flatten({name: getattr(state, name) for name in COLLECTIONS})
    return {"losses": np.array(losses), **{name: np.asarray(x) for name, x in after.items()}}
