"""What leaves the package: a program that runs without it, weights that others read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors import safe_open

import fednas_jax
from fednas_jax.checkpoints import model_file
from fednas_jax.checkpoints.model import Model
from fednas_jax.data import datasets
from fednas_jax.export import PLATFORMS, main
from tests.quick import quick_jit
from tests.tiny import (
    any_checkpoint,
    fedavg_config,
    first_checkpoint,
    genotype_config,
    search_config,
)

IMAGES = datasets.load("digits").test.images[:5]

ELSEWHERE = """
import json, sys
sys.modules["fednas_jax"] = sys.modules["flax"] = None  # importing them fails
import jax, numpy
from jax import export
program = export.deserialize(open(sys.argv[1], "rb").read())
images = numpy.load(sys.argv[2], allow_pickle=False)
print(json.dumps([numpy.asarray(program.call(images[:int(n)])).tolist() for n in sys.argv[3:]]))
"""


def config_of(kind: str) -> Any:
    if kind == "supernet":
        return search_config()
    if kind == "genotype":  # as README trains and exports one, and with the head that is not used
        return genotype_config(**{"network.auxiliary": True})
    config = fedavg_config()
    config.network.name = kind
    return config


@pytest.fixture(scope="module", params=["2nn", "supernet", "genotype", "resnet20"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network of each kind, exported into its workdir."""
    folder = tmp_path_factory.mktemp(request.param)
    # A supernet of any numbers has one answer to all images.
    write = first_checkpoint if request.param == "supernet" else any_checkpoint
    write(config_of(request.param), folder)
    assert main([str(folder)]) == 0
    return fednas_jax.restore(folder)


@pytest.fixture(scope="module")
def run(model: Model) -> Path:
    """Its workdir."""
    return model.path.parents[1]


def test_the_program_runs_without_the_package(model: Model, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    files = run / "export" / "predict.jax", tmp_path / "images.npy"
    # Each number compiles anew, and a large program for long.
    numbers = ["5", "1"] if model.description.network["name"] == "2nn" else ["5"]
    # What runs once should compile fast, as in tests.quick.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, files), *numbers],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "XLA_FLAGS": flags},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = np.asarray(jax.nn.softmax(quick_jit(model.forward)(IMAGES)))
    assert np.ptp(expected, axis=0).max() > 1e-3  # another image has another answer
    for number, found in zip(numbers, json.loads(done.stdout), strict=True):
        np.testing.assert_allclose(found, expected[: int(number)], atol=1e-5)


def test_the_program_says_what_it_takes(run: Path) -> None:
    program = jax.export.deserialize((run / "export" / "predict.jax").read_bytes())
    assert program.platforms == PLATFORMS
    assert str(program.in_avals) == "(ShapedArray(uint8[n,8,8,1]),)"


def test_weights_have_plain_names(model: Model, run: Path) -> None:
    with safe_open(run / "export" / "weights.safetensors", "numpy") as file:
        names = file.keys()
        arrays = {name: file.get_tensor(name) for name in names}
        about = json.loads(file.metadata()["model"])
    assert about == model_file.to_json(model.description)
    assert json.loads((run / "export" / "model.json").read_text()) == about
    assert len(arrays) == len(jax.tree.leaves(model.variables))
    for name, array in arrays.items():
        leaf = model.variables
        for part in name.split("."):
            leaf = leaf[part]
        np.testing.assert_array_equal(array, leaf)


def test_bad_input_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    checkpoint = any_checkpoint(fedavg_config(), run)
    assert main([str(checkpoint)]) == 2
    assert "--out: missing; " in capsys.readouterr().err
    assert main([str(run), "--round=7", f"--out={tmp_path / 'out'}"]) == 2
    assert "no checkpoint of round 7" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [run]
    assert [path.name for path in run.iterdir()] == ["checkpoints"]
    assert [path.name for path in checkpoint.parent.iterdir()] == ["000001"]
    assert not (checkpoint / "export").exists()
