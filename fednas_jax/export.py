"""Exports a model for other programs: `python -m fednas_jax.export DIR [--out=FOLDER]`."""

import json
import sys
from collections.abc import Sequence

from fednas_jax.runtime import environment, start

if __name__ == "__main__":
    environment.prepare("fednas_jax.export")  # before other imports: it may restart the process
    start.import_jax_or_exit()

import jax
import numpy as np
from jax import export
from safetensors import numpy as safetensors

from fednas_jax.checkpoints import model_file
from fednas_jax.checkpoints.model import Model, restore
from fednas_jax.runtime import console, settings
from fednas_jax.runtime.command_line import HELP_FLAGS, guarded, one_folder, out_folder, round_of
from fednas_jax.runtime.files import make_folder, write_atomic, write_json

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
PROGRAM_FILE, WEIGHTS_FILE = "predict.jax", "weights.safetensors"

HELP = f"""Writes the model of a checkpoint into files for other programs:

  {PROGRAM_FILE:<19} a program, raw images -> probabilities, with the weights; it needs jax and
                      flatbuffers: jax.export.deserialize(content).call(images)
  {WEIGHTS_FILE:<19} the weights and running statistics, each under its path
  {model_file.FILE:<19} class names, image size, normalisation, genotype

  {{program}} DIR [--round=N] [--out=FOLDER]

  DIR      the workdir of a run, or a checkpoint of it (DIR/checkpoints/000012)
  --round  number of the round whose checkpoint is exported, instead of the best one
  --out    folder for the files; DIR/export if not given; needed where DIR is a checkpoint
"""


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.export") -> int:
    """Exports one checkpoint; returns the exit code: 0 done (or help shown), 2 bad input."""
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP.format(program=program), end="")
        return 0
    return guarded(lambda: _run(argv), "the same command writes all files again")


def _run(argv: Sequence[str]) -> None:
    folder, given = one_folder(argv, ("round", "out"))
    place = out_folder(folder, given["out"], "export")
    model = restore(folder, round_of(given["round"]))
    files = {PROGRAM_FILE: program(model), WEIGHTS_FILE: weights(model)}
    out = make_folder(place, "--out")
    for name, content in files.items():
        write_atomic(out / name, content)
    write_json(out / model_file.FILE, model_file.to_json(model.description))
    sizes = ", ".join(f"{name} ({len(files[name]) / 1e6:.1f} MB)" for name in files)
    print(f"Files in {out}: {sizes}, {model_file.FILE} ({model.path})")


@settings.fixed()
def program(model: Model) -> bytes:
    """The prediction, serialised by `jax.export`, for any number of images and any platform.

    Args:
      model: the model whose `probabilities` the program computes, from raw images [N, H, W, C].
    """

    def probabilities(image: jax.Array) -> jax.Array:
        return jax.nn.softmax(model.forward(image[None])[0])

    # One image, under vmap: the layout of the networks' maps depends on the number of images, which
    # is unknown here.
    (number,) = export.symbolic_shape("n")
    shape = (number, *model.preprocessing.image_shape)
    images = jax.ShapeDtypeStruct(shape, model.preprocessing.dtype)
    exported = export.export(jax.jit(jax.vmap(probabilities)), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())


def weights(model: Model) -> bytes:
    """All variables in the format safetensors, by path, such as `params.stem_conv.kernel`."""
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.variables)
    }
    about = {"model": json.dumps(model_file.to_json(model.description))}
    return safetensors.save(named, about)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
