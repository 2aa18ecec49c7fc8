"""What leaves the package: a program that runs without it, weights that others read."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
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
from fednas_jax.export import OLDEST_READERS, PLATFORMS, main, needs
from fednas_jax.runtime.releases import MISCOMPILES
from tests.documents import text
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
import importlib.metadata, json, sys
# Importing fails for all that jax itself does not install, but flatbuffers.
wanted = {"jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy", "flatbuffers"}
for name in {*importlib.metadata.packages_distributions(), "fednas_jax"} - wanted:
    sys.modules[name] = None
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


def test_what_the_program_needs_lies_beside_it(run: Path) -> None:
    program = jax.export.deserialize(bytearray((run / "export" / "predict.jax").read_bytes()))
    kept = json.loads((run / "export" / "predict.json").read_text())
    assert kept == {
        "needs": needs(jax.__version__),
        **{name: metadata.version(name) for name in ("jax", "jaxlib", "fednas_jax")},
        "calling_convention_version": program.calling_convention_version,
        "platforms": list(PLATFORMS),
        "input": "uint8[n,8,8,1]",
        "output": "float32[n,10]",
    }


def test_without_flatbuffers_no_program_is_read() -> None:
    source = "import sys; sys.modules['flatbuffers'] = None; from jax import export as e"
    done = subprocess.run(
        [sys.executable, "-c", f"{source}; e.deserialize(bytearray(8))"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "install 'flatbuffers'" in done.stderr


@pytest.mark.parametrize(
    ("made_with", "jax_needed"),
    [
        ("0.10.1", "jax>=0.8.2,!=0.10.2,!=0.11.0"),
        ("0.11.2", "jax>=0.11.1"),
        ("0.12.0", "jax>=0.12.0"),  # not tried with older ones
        ("0.12.0.dev20270101", "jax>=0.12.0.dev20270101"),
    ],
)
def test_needs_the_oldest_release_that_was_tried(made_with: str, jax_needed: str) -> None:
    assert needs(made_with) == [jax_needed, "flatbuffers"]


def test_the_console_and_the_documents_say_what_is_needed(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model.description.network["name"] != "2nn":
        pytest.skip("one network is enough")
    assert main([str(model.path), f"--out={tmp_path / 'out'}"]) == 0
    wanted = " and ".join(needs(jax.__version__))
    line = f"predict.jax needs {wanted} (made with jax {jax.__version__})"
    assert capsys.readouterr().out.splitlines()[-1] == line
    outputs = text("docs/outputs.md")
    assert f"predict.jax needs {' and '.join(needs('0.10.1'))} (made with jax 0.10.1)" in outputs
    rows = re.findall(r"^\| jax ([\d.]+) \(.*?\) \| ([\d., ]+) \|.*\|$", outputs, re.MULTILINE)
    right = {made: [r for r in ran.split(", ") if r not in MISCOMPILES] for made, ran in rows}
    assert {made: ran[0] for made, ran in right.items()} == OLDEST_READERS


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
