"""Restores a trained network or a supernet from a checkpoint, ready to predict."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fednas_jax.checkpoints import checkpoint, model_file
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.checkpoints.checkpoint_folder import describe, first_difference
from fednas_jax.checkpoints.model_file import Description, Preprocessing
from fednas_jax.data import learnt
from fednas_jax.data.augment import normalize
from fednas_jax.data.learnt import Learnt
from fednas_jax.fields import extension
from fednas_jax.networks import registry as networks
from fednas_jax.runtime import compilation, layout, settings, user_code
from fednas_jax.runtime.errors import UserError, listed, one_line, warn
from fednas_jax.runtime.paths import check_utf8, expand

BATCH = 128
"""Images predicted at once."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """The model of a checkpoint.

    Attributes:
      network: normalised images [B, H, W, C] -> logits; `network.apply(variables, images,
        train=False)`.
      variables: its collections, `params` and others.
      genotype: the network's genotype, or the one derived from a supernet's alphas; None for a
        network without a genotype.
      description: class names, preprocessing, and the data that it was trained on.
      path: the checkpoint's folder.
      round: the round after which it was written.
      learnt: the examples that it has learnt from; None for a checkpoint of an earlier version.
    """

    network: nn.Module
    variables: dict[str, Any]
    genotype: networks.Genotype | None
    description: Description
    path: Path
    round: int
    learnt: Learnt | None = None

    def __repr__(self) -> str:
        """What it is in a line: without its arrays, which have thousands of lines."""
        shape = " x ".join(map(str, self.preprocessing.image_shape))
        params = dict(self.variables["params"])
        head = _count(params.pop("auxiliary_head", {}))
        of_head = f" and {head:,} of its auxiliary head" if head else ""
        return (
            f"<Model of {self.path}: {type(self.network).__name__}, {_count(params):,} parameters"
            f"{of_head}, inputs {shape} {self.preprocessing.dtype}, {len(self.class_names)} classes"
            f" ({listed(self.class_names)}), round {self.round}>"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of each logit."""
        return self.description.class_names

    @property
    def client_names(self) -> tuple[str, ...]:
        """The name of each of the run's clients 0, 1, ... in the data that it was trained on.

        () where the data do not name clients, where the partition makes other clients of them, and
        for checkpoints of earlier versions, which did not record names.
        """
        return self.description.client_names

    @property
    def preprocessing(self) -> Preprocessing:
        """Shape and type of raw images, and how they are normalised."""
        return self.description.preprocessing

    @property
    def is_supernet(self) -> bool:
        """Whether it is the supernet of a search."""
        return networks.is_supernet(self.description.network)

    def forward(self, images: jax.Array) -> jax.Array:
        """Logits of raw images, as a function that JAX can transform.

        Args:
          images: [B, H, W, C], as `preprocessing` describes them.

        Returns:
          [B, classes].
        """
        normal = images
        if self.preprocessing.mean:
            normal = normalize(images, self.preprocessing.mean, self.preprocessing.std)
        logits: Any = self.network.apply(self.variables, normal, train=False)
        return logits

    @settings.fixed()
    def logits(self, images: Any) -> np.ndarray:
        """Logits of raw images, compiled at the first call.

        Args:
          images: [N, H, W, C], of the size and type that the network was trained on; [N, H, W] is
            possible for one channel.

        Returns:
          [N, classes] float32.

        Raises:
          UserError: the images are of another size or type.
        """
        images = self.preprocessing.check(images)
        # Only powers of 2, so that few programs are compiled.
        size = min(BATCH, 1 << max(len(images) - 1, 0).bit_length())
        found = []
        for start in range(0, max(len(images), 1), size):
            batch = images[start : start + size]
            padding = ((0, size - len(batch)), *[(0, 0)] * (images.ndim - 1))
            found.append(np.asarray(self._compiled(np.pad(batch, padding)))[: len(batch)])
        return np.concatenate(found)

    @settings.fixed()
    def probabilities(self, images: Any) -> np.ndarray:
        """Softmax of `logits`, [N, classes]."""
        return np.asarray(jax.nn.softmax(self.logits(images)))

    def predict(self, images: Any) -> np.ndarray:
        """The most probable class of each raw image, [N]: an index into `class_names`.

        Args and errors: as `logits`.
        """
        return self.logits(images).argmax(axis=-1)

    def predict_names(self, images: Any) -> np.ndarray:
        """The name of the most probable class of each raw image, [N] text.

        Args and errors: as `logits`.
        """
        return np.array(self.class_names)[self.predict(images)]

    def has_learnt_from(self, images: Any) -> np.ndarray:
        """Which raw images the model's run has learnt from or has selected its best round by.

        Images are compared pixel by pixel, whatever file they are in. Of a data set with a task of
        its own, raw inputs are compared: those before `Task.prepare`.

        Args:
          images: as for `logits`; of a data set with a task of its own, raw inputs [N, ...] in the
            type of the data set.

        Returns:
          [N] bool.

        Raises:
          UserError: as `logits`; or the checkpoint is of an earlier version, which did not record
            the images.
        """
        if self.learnt is None:
            raise UserError(
                f"{self.path}: does not say which images the model has learnt from; a checkpoint "
                "of this version of fednas_jax is needed"
            )
        own = not self.preprocessing.mean  # raw inputs may be of another shape than prepared ones
        return learnt.contains(
            self.learnt, np.asarray(images) if own else self.preprocessing.check(images)
        )

    @functools.cached_property
    def _compiled(self) -> Any:
        return compilation.jit(self.forward, quick=self.is_supernet)


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@settings.fixed()
def restore(
    folder: Path | str, which: int | str = "best", *, network: Callable[..., Any] | None = None
) -> Model:
    """Builds the model of a checkpoint; no other file of its run is needed.

    The exception is the file of a user's own network. It is looked for under the path in the
    config, relative to the current folder; where it was in the run; and in the run's folder and the
    folder above. Warns if the file has changed since the run.

    Args:
      folder: the workdir of a run, or one checkpoint (`checkpoints/000012`). If the run has several
        stages, its last one is used.
      which: a round that has a checkpoint, or "best"; unused if `folder` is a checkpoint.
      network: the user's own network, instead of the one that the checkpoint names.

    Raises:
      UserError: there is no checkpoint; it is damaged, has no model, or is of a later version; or
        JAX finds no device.
    """
    path = checkpoint.locate(layout.last(check_utf8(expand(folder, "restore"), "restore")), which)
    saved = checkpoint.read_saved(path, model_file.COLLECTIONS)
    source = str(path / model_file.FILE)
    description = model_file.from_json(saved.model, source)
    built = build(_located(description, path, network), source)
    variables = jax.device_put(saved.variables)
    _check_fits(built, description, variables, source)
    genotype = networks.genotype_of_model(description.network, variables)
    return Model(built, variables, genotype, description, path, saved.round, saved.learnt)


def _located(description: Description, path: Path, given: Callable[..., Any] | None) -> Description:
    """The description, with a reference that leads to a user's own network from here.

    Raises:
      UserError: the network's file is not found, or the network has to be passed as an object.
    """
    name = description.network["name"]
    if given is not None:
        name = extension.given("network", given)
    elif user_code.is_given(name) and not _is_the_same_here(name, description.code):
        raise UserError(
            f"{path / model_file.FILE}: its network was given in Python, as {name}; the object is "
            "needed: restore(folder, network=...)"
        )
    elif user_code.is_reference(name):
        run = path.parent.parent
        recorded = description.code
        try:
            name = user_code.found_again(name, recorded, (run, run.parent))
            now = user_code.load(name, "config.network.name").source
        except UserError as error:
            raise UserError(
                f"{path / model_file.FILE}: {error}; or the network itself: restore(folder, "
                "network=...)"
            ) from error
        if recorded.get("sha256") and now.sha256 != recorded["sha256"]:
            warn(
                f"{now.path or name} is not as it was when the model in {path} was trained; what "
                "the model computes may have changed with it"
            )
    return description._replace(network={**description.network, "name": name})


def _is_the_same_here(name: str, recorded: Mapping[str, str]) -> bool:
    """Whether what this process was given under a name stands in the file that is recorded."""
    if not user_code.is_here(name):
        return False
    here = user_code.load(name, "config.network.name").source.sha256
    return here != "" and here == recorded.get("sha256")


def save(model: Model, folder: Path | str) -> Path:
    """Writes a model as a checkpoint, which `restore` and `config.warm_start` can read.

    Args:
      model: a model from `restore`. Its `variables` and `description` may be replaced, if they fit
        each other; the network is built from the description.
      folder: the folder of a stage or a run. The checkpoint is written to its `checkpoints/`, under
        the number `model.round`.

    Returns:
      The checkpoint's folder.

    Raises:
      UserError: the variables are of another network, or the files cannot be written.
    """
    place = expand(folder, "save") / layout.CHECKPOINTS_FOLDER
    source = f"{place}: {model_file.FILE}"
    _check_fits(build(model.description, source), model.description, model.variables, source)
    Checkpoints(place).save(
        model.round,
        model.variables,
        None,
        is_best=True,
        model=model_file.to_json(model.description),
        examples=b"" if model.learnt is None else learnt.to_bytes(model.learnt),
    )
    return place / f"{model.round:06d}"


def build(description: Description, source: str) -> nn.Module:
    """The network of a description.

    Args:
      description: the description.
      source: its name in an error.

    Raises:
      UserError: the network has a field that this version does not know, or a value that is not
        usable.
    """
    classes = len(description.class_names)
    try:
        return networks.build(description.network, description.preprocessing.image_shape, classes)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except TypeError as error:  # of a later version
        raise UserError(
            f"{source}: {one_line(error)}; a field that this version of fednas_jax knows is needed"
        ) from error


def _check_fits(
    network: nn.Module, description: Description, variables: dict[str, Any], source: str
) -> None:
    expects = description.preprocessing
    dtype = jnp.float32 if expects.mean else expects.dtype
    image = jax.ShapeDtypeStruct((1, *expects.image_shape), dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    wanted = jax.eval_shape(lambda k, x: network.init(k, x, train=False), key, image)
    if difference := first_difference(describe(variables), describe(wanted)):
        raise UserError(
            f"{source}: the checkpoint's arrays are of another network: {difference}; "
            "an unchanged checkpoint is needed"
        )
