"""Exports a model for other programs: `python -m fednas_jax.export DIR [--out=FOLDER]`."""

import json
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

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
from fednas_jax.fields import words
from fednas_jax.runtime import console, releases, settings
from fednas_jax.runtime.command_line import HELP_FLAGS, guarded, one_folder, out_folder, round_of
from fednas_jax.runtime.files import make_folder, write_atomic, write_json
from fednas_jax.runtime.version import __version__

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
PROGRAM_FILE, WEIGHTS_FILE = "predict.jax", "weights.safetensors"
NEEDS_FILE = "predict.json"

OLDEST_READERS = {"0.10.1": "0.8.2", "0.11.2": "0.11.1"}
"""Release of jax that exports -> the oldest release that ran its programs and computes right.

Tried with five networks (2nn, cnn, resnet20, a genotype, a supernet) on a CPU, in environments of
jax, jaxlib and flatbuffers alone. 0.8.1 and 0.10.2 fail: they read "0 devices", or cannot
deserialize StableHLO. 0.11.0 runs them, but miscompiles other programs (`releases.MISCOMPILES`)."""

HELP = f"""Writes the model of a checkpoint into files for other programs:

  {PROGRAM_FILE:<19} a program, raw images -> probabilities, with the weights; it needs jax and
                      flatbuffers: jax.export.deserialize(content).call(images)
  {NEEDS_FILE:<19} the releases of jax that can run the program, and what made it
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
    folder, given = one_folder(argv, ("round", "out"), words.flag_of_results)
    place = out_folder(folder, given["out"], "export")
    model = restore(folder, round_of(given["round"]))
    files = {PROGRAM_FILE: program(model), WEIGHTS_FILE: weights(model)}
    needed = needs(jax.__version__)
    out = make_folder(place, "--out")
    for name, content in files.items():
        write_atomic(out / name, content)
    write_json(out / NEEDS_FILE, about(files[PROGRAM_FILE], needed))
    write_json(out / model_file.FILE, model_file.to_json(model.description))
    sizes = ", ".join(f"{name} ({len(files[name]) / 1e6:.1f} MB)" for name in files)
    print(f"Files in {out}: {sizes}, {NEEDS_FILE}, {model_file.FILE} ({model.path})")
    print(f"{PROGRAM_FILE} needs {' and '.join(needed)} (made with jax {jax.__version__})")


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


def needs(release: str) -> list[str]:
    """What has to be installed to run a program, as pip takes it.

    Args:
      release: the release of jax that exported the program. Where it was not tried with older ones,
        it is itself the oldest that is certain to run the program.
    """
    oldest = OLDEST_READERS.get(release, release)
    faulty = "".join(f",!={one}" for one in releases.MISCOMPILES if _number(one) >= _number(oldest))
    return [f"jax>={oldest}{faulty}", "flatbuffers"]


def _number(release: str) -> list[int]:
    """ "0.10.1" as [0, 10, 1]; a suffix, as of a development release, is left out."""
    return [int(part) for part in release.split(".")[:3] if part.isdigit()]


def about(content: bytes, needed: Sequence[str]) -> dict[str, Any]:
    """What `predict.json` says of a program.

    Args:
      content: the program, from `program`.
      needed: from `needs`.
    """
    exported = export.deserialize(bytearray(content))
    return {
        "needs": list(needed),
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "fednas_jax": __version__,
        "calling_convention_version": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "input": _type(exported.in_avals[0]),
        "output": _type(exported.out_avals[0]),
    }


def _type(array: Any) -> str:
    """Type and shape, such as "uint8[n,8,8,1]"."""
    return f"{array.dtype}[{','.join(str(size) for size in array.shape)}]"


def weights(model: Model) -> bytes:
    """All variables in the format safetensors, by path, such as `params.stem_conv.kernel`."""
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.variables)
    }
    described = {"model": json.dumps(model_file.to_json(model.description))}
    return safetensors.save(named, described)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
