"""What leaves the package: a program that runs without it, weights that others read."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open

import fednas_jax
from fednas_jax import model_file
from fednas_jax.data import datasets
from fednas_jax.export import PLATFORMS, main
from tests.tiny import fedavg_config, first_checkpoint, search_config

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


@pytest.fixture(scope="module", params=["2nn", "supernet"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a network of each kind, exported."""
    folder = tmp_path_factory.mktemp(request.param)
    first_checkpoint(fedavg_config() if request.param == "2nn" else search_config(), folder)
    assert main([str(folder)]) == 0
    return folder


def test_the_program_runs_without_the_package(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    files = run / "export" / "predict.jax", tmp_path / "images.npy"
    # Each number compiles anew, and a supernet for long.
    numbers = ["5"] if fednas_jax.restore(run).is_supernet else ["5", "1"]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, files), *numbers],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = fednas_jax.restore(run).probabilities(IMAGES)
    for number, found in zip(numbers, json.loads(done.stdout), strict=True):
        np.testing.assert_allclose(found, expected[: int(number)], atol=1e-5)


def test_the_program_says_what_it_takes(run: Path) -> None:
    program = jax.export.deserialize((run / "export" / "predict.jax").read_bytes())
    assert program.platforms == PLATFORMS
    assert str(program.in_avals) == "(ShapedArray(uint8[n,8,8,1]),)"


def test_weights_have_plain_names(run: Path) -> None:
    model = fednas_jax.restore(run)
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


def test_bad_input_writes_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(run), "--round=7", f"--out={tmp_path / 'out'}"]) == 2
    assert "no checkpoint of round 7" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
