"""Transforms and reducers of a user's own: docs/extending.md from a folder elsewhere; refusals."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fednas_jax import experiment, restore
from fednas_jax.federated.reducers import buffered
from fednas_jax.runtime.errors import UserError
from tests.tiny import ROOT, fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, mark in (("clip.py", "CLIP = "), ("median.py", "def median")):
        (block,) = [block for block in BLOCKS if mark in block]
        Path(name).write_text(block)


def config(**fields: Any) -> Any:
    """One round of all six clients."""
    found = fedavg_config()
    found.rounds, found.clients_per_round, found.test_every = 1, 0, 1
    found.update_from_flattened_dict(fields)
    return found


def params(folder: str) -> np.ndarray:
    leaves = jax.tree.leaves(restore(folder).variables["params"])
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])


def test_a_clipped_change_is_as_long_as_the_config_says() -> None:
    one = {"clients_per_round": 1}
    experiment.run(config(**one, **{"optimizer.learning_rate": 1e-12}), "first")
    experiment.run(config(**one), "plain")
    clipping = config(**one, transforms="clip.py:CLIP")
    clipping.clip = {"norm": 0.01}
    experiment.run(clipping, "clipped")
    first = params("first")
    plain, clipped = params("plain") - first, params("clipped") - first
    assert np.linalg.norm(plain) > 0.02
    np.testing.assert_allclose(np.linalg.norm(clipped), 0.01, rtol=1e-3)
    np.testing.assert_allclose(clipped, 0.01 * plain / np.linalg.norm(plain), atol=1e-6)
    run = json.loads(Path("clipped/run.json").read_text())
    assert run["config"]["clip"] == {"norm": 0.01}
    assert run["user_code"]["transforms:clip.py:CLIP"]["path"].endswith("clip.py")
    Path("clip.py").write_text(Path("clip.py").read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"^config\.transforms: .*clip\.py is not as it was when"):
        experiment.run(clipping, "clipped")


def test_a_median_withstands_a_client_whose_labels_are_wrong() -> None:
    """Of three clients, two agree: each coordinate lies between the least and the largest."""
    trained = {}
    for client in (0, 1, 2):
        own = config(clients_per_round=0, **{"partition.num_clients": 3})
        experiment.run(own, f"of-{client}", partition=lambda c, d, k=client: only(k))
        trained[client] = params(f"of-{client}")
    experiment.run(config(), "median", partition=lambda c, d: split(), reducer="median.py:median")
    expected = np.median(np.stack(list(trained.values())), axis=0)
    np.testing.assert_allclose(params("median"), expected, atol=2e-6)


def split() -> list[np.ndarray]:
    return np.array_split(np.arange(60), 3)


def only(client: int) -> list[np.ndarray]:
    """The clients of `split`, of whom one alone has examples: same id, same draws."""
    return [part if k == client else part[:0] for k, part in enumerate(split())]


def test_objects_are_taken_as_they_are() -> None:
    def first_place(sent: Any, present: jax.Array) -> Any:
        return jax.tree.map(lambda rows: rows[0], sent)

    reducer = buffered("first", first_place)
    experiment.run(config(), "run", reducer=reducer)
    recorded = json.loads(Path("run/run.json").read_text())["config"]
    assert recorded["reducer"] == "given:reducer_first"


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        (
            "transforms",
            "def f(config): return 3",
            "own.py:f returns int; a fednas_jax.federated.t",
        ),
        (
            "transforms",
            "f = 3",
            r"own\.py:f is of type int; a fednas_jax\.federated",
        ),
        (
            "reducer",
            "def f(config): return config.x",
            r"own\.py:f fails at .*\.py:1 \(Attr",
        ),
        ("reducer", "", r"config\.reducer: own\.py has no 'f'"),
    ],
)
def test_what_is_no_transform_or_reducer_is_refused(field: str, text: str, says: str) -> None:
    Path("own.py").write_text(text)
    with pytest.raises(UserError, match=says) as raised:
        experiment.run(config(**{field: "own.py:f"}), "run")
    assert "\n" not in str(raised.value)
    assert not Path("run").exists()
