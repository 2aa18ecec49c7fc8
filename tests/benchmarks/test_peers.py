"""What the benchmarks' peers are told, and that the package itself needs none of them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import benchmarks
import fednas_jax
from benchmarks.harness import Peer
from benchmarks.peer_data import write_examples
from fednas_jax.data.datasets import Dataset, Split

PEERS = Path(benchmarks.__file__).parent / "peers"
FOREIGN = {"torch", "flwr", "ray", "pfl", "benchmarks"}


def test_versions_are_pinned():
    files = sorted(PEERS.glob("requirements-*.txt"))
    assert [file.stem for file in files] == [
        "requirements-flower",
        "requirements-pfl",
        "requirements-torch",
    ]
    for file in files:
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(re.fullmatch(r"[\w-]+(\[\w+\])?==[\d.]+", line) for line in lines), file


def test_setup_names_what_there_is():
    done = subprocess.run([PEERS / "setup.sh", "tensorflow"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "setup.sh: tensorflow: no such peer; torch, flower or pfl is needed"
    )


def test_the_package_imports_no_peer():
    package = Path(fednas_jax.__file__).parent
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert not FOREIGN & {name.split(".")[0] for name in names}, file


NOISY = """
import os
from benchmarks.peers.protocol import Channel

channel = Channel()
print('{"this": "is not an answer"}')
os.system("echo '{\\"nor\\": \\"this\\"}'")
channel.ready(parameters=3)
for request in channel.requests():
    print("busy")
    channel.answer(seconds=request["rounds"] / 2)
"""


def test_a_peer_keeps_its_answers_apart_from_what_libraries_print(tmp_path, monkeypatch):
    (tmp_path / "noisy_peer.py").write_text(NOISY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Peer(sys.executable, "noisy_peer") as peer:
        assert peer.facts == {"ready": True, "parameters": 3}
        assert [peer.ask({"rounds": n}) for n in (1, 4)] == [{"seconds": 0.5}, {"seconds": 2}]


@pytest.fixture
def dataset():
    """Four train images, two test images."""
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2, 1)
    labels = np.arange(6, dtype=np.int32)
    train, test = Split(images[:4], labels[:4], None), Split(images[4:], labels[4:], None)
    return Dataset("toy", train, test, 6, tuple("abcdef"), (0.5,), (0.25,))


def test_examples_are_written_as_plain_arrays(tmp_path, dataset):
    clients = [np.array([3, 1]), np.array([0, 2])]
    write_examples(tmp_path / "x.npz", dataset, clients)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["train_images"], dataset.train.images)
        np.testing.assert_array_equal(file["test_labels"], [4, 5])
        np.testing.assert_array_equal(file["clients"], [[3, 1], [0, 2]])
        assert file["train_images"].dtype == np.uint8
        assert (file["mean"], file["std"]) == (0.5, 0.25)
