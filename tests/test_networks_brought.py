"""Networks of a user's own: docs/extending.md, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import linen as nn

import fednas_jax
from fednas_jax import experiment, networks
from fednas_jax.data import datasets
from fednas_jax.errors import UserError
from fednas_jax.report.writers import read_rows
from tests.tiny import ROOT, fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
(SMALL,) = [block for block in BLOCKS if "class Small" in block]


class Normalised(nn.Module):
    """Linear, after BatchNorm: with statistics to keep."""

    num_classes: int

    @nn.compact
    def __call__(self, images: Any, train: bool) -> Any:
        x = images.reshape(len(images), -1)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.num_classes)(x)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(SMALL)
    return tmp_path


def mine(**fields: Any) -> Any:
    config = fedavg_config()
    config.network.name = "small.py:Small"
    config.rounds = 2
    config.update_from_flattened_dict(fields)
    return config


def test_it_is_trained_restored_and_recorded(elsewhere: Path) -> None:
    experiment.run(mine(), "run")
    losses = [row["train_loss"] for row in read_rows(Path("run/metrics.jsonl"))[1:]]
    assert losses[1] < losses[0]
    source = json.loads(Path("run/run.json").read_text())["user_code"]["network.name"]
    assert Path(source["path"]).samefile("small.py")
    model = fednas_jax.restore("run")
    images = datasets.load("digits").test.images[:5]
    assert model.predict(images).shape == (5,)
    Path("small.py").write_text(SMALL + "# changed\n")
    with pytest.raises(
        UserError, match=r"^config\.network\.name: .*small\.py is not as it was when"
    ):
        experiment.run(mine(), "run")


def test_in_python_the_class_itself_and_its_statistics(elsewhere: Path) -> None:
    experiment.run(mine(), "run", network=Normalised)
    run = json.loads(Path("run/run.json").read_text())
    assert run["config"]["network"]["name"] == f"{__name__}:Normalised"
    statistics = fednas_jax.restore("run").variables["batch_stats"]
    assert np.asarray(statistics["BatchNorm_0"]["mean"]).any()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Small = 3", "small.py:Small is of type int; a linen module, or a function that returns"),
        ("def Small(num_classes): return 3", "fails (TypeError: it returns a int); a linen module"),
        ("def Small(): pass", "fails (TypeError: Small() got an unexpected keyword argument 'num_"),
        (SMALL.replace("self.num_classes)", "7)"), "makes shape [1, 7] of one image of [8, 8, 1]"),
        (SMALL.replace(", train)", ")"), "fails (TypeError: "),
    ],
)
def test_what_makes_no_logits_is_refused(elsewhere: Path, text: str, says: str) -> None:
    Path("small.py").write_text(text)
    with pytest.raises(UserError) as raised:
        experiment.run(mine(), "run")
    assert str(raised.value).startswith("config.network.name: ")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not Path("run").exists()


def test_a_name_that_is_none(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"or path/to/file\.py:Name, is needed; did you mean 'cnn'"):
        experiment.run(mine(**{"network.name": "ccn"}), "run")
    assert not networks.is_large("small.py:Small")
