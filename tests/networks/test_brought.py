"""Networks of a user's own: docs/extending.md, and what is refused."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import linen as nn

import fednas_jax
from fednas_jax import compare, experiment
from fednas_jax.checkpoints import model_file
from fednas_jax.data import datasets
from fednas_jax.networks import registry as networks
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.studies import comparison
from tests.tiny import ROOT, fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
(SMALL,) = [block for block in BLOCKS if "class Small" in block]
(WIDE,) = [block for block in BLOCKS if "WIDE = " in block]


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


def mine(variant: str = "", **fields: Any) -> Any:
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


def test_its_own_fields_come_to_it_and_stay_with_the_model(elsewhere: Path, capsys: Any) -> None:
    Path("small.py").write_text(SMALL + WIDE)
    config = mine(**{"network.name": "small.py:WIDE", "network.width": 3, "rounds": 1})
    experiment.run(config, "run")
    assert json.loads(Path("run/run.json").read_text())["config"]["network"] == {
        "name": "small.py:WIDE",
        "width": 3,
    }
    model = fednas_jax.restore("run")
    assert model.variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 1, 3)
    with pytest.raises(UserError, match=r"^config\.network\.width: 0 is not usable; at least 1"):
        experiment.run(mine(**{"network.name": "small.py:WIDE", "network.width": 0}), "other")
    # What does not take them says so.
    Path("small.py").write_text(SMALL.replace("width: int = 8", "wide: int = 8") + WIDE)
    with pytest.raises(UserError, match="unexpected keyword argument 'width'"):
        experiment.run(config, "other")


def test_a_model_finds_its_network_from_wherever_one_stands(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    images = datasets.load("digits").test.images[:5]
    experiment.run(mine(rounds=1), "runs/run")
    expected = fednas_jax.restore("runs/run").logits(images)
    away, run = elsewhere / "away", elsewhere / "runs/run"
    away.mkdir()
    monkeypatch.chdir(away)

    def found() -> Any:
        capsys.readouterr()
        model = fednas_jax.restore(run)
        return model.logits(images).tolist(), capsys.readouterr().err

    assert found() == (expected.tolist(), "")  # where it was
    # Another of the same name here is not what it was trained with.
    Path("small.py").write_text(SMALL.replace("relu", "tanh"))
    assert found() == (expected.tolist(), "")
    Path("small.py").unlink()
    (elsewhere / "small.py").rename(run.parent / "small.py")
    assert found() == (expected.tolist(), "")  # beside the folder of the run
    (run.parent / "small.py").rename(run / "small.py")
    assert found() == (expected.tolist(), "")
    (run / "small.py").write_text(SMALL.replace("relu", "tanh"))
    logits, said = found()
    assert logits != expected.tolist()
    assert "small.py is not as it was when the model in" in said
    assert said.count("\n") == 1
    (run / "small.py").unlink()
    with pytest.raises(UserError, match=r"model\.json: small\.py:Small: no such file can be read"):
        fednas_jax.restore(run)


def test_a_model_without_the_record_of_its_networks_file(elsewhere: Path) -> None:
    experiment.run(mine(rounds=1), "run")
    path = model_file.FILE
    file = next(Path("run/checkpoints").glob(f"*/{path}"))
    value = json.loads(file.read_text())
    assert value["code"] == {
        "path": str(elsewhere / "small.py"),
        "sha256": hashlib.sha256(SMALL.encode()).hexdigest(),
    }
    described = model_file.from_json(value, "here")
    assert model_file.to_json(described) == value
    del value["code"]
    assert model_file.from_json(value, "here") == described._replace(code={})
    assert model_file.to_json(described._replace(code={})) == value
    with pytest.raises(UserError, match=r"^here: not the description of a model \(AttributeError"):
        model_file.from_json(value | {"code": 3}, "here")


def test_an_object_that_no_name_leads_to(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(num_classes: int) -> nn.Module:
        return Normalised(num_classes)

    experiment.run(mine(rounds=1), "run", network=linear)
    run = json.loads(Path("run/run.json").read_text())
    assert run["config"]["network"]["name"] == "given:network_linear"
    assert run["user_code"]["network.name"]["path"] == __file__
    monkeypatch.setattr(user_code, "_given", {})
    with pytest.raises(UserError, match=r"given in Python, as given:network_linear; .*network="):
        fednas_jax.restore("run")
    model = fednas_jax.restore("run", network=linear)
    assert isinstance(model.network, Normalised)
    assert isinstance(fednas_jax.restore("run").network, Normalised)  # as it is here now
    user_code._given.clear()
    with pytest.raises(UserError, match=r"experiment\.run\(config, workdir, network=\.\.\.\)"):
        experiment.run(mine(rounds=1), "run")


def test_two_objects_of_one_name_are_restored_each(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_code, "_given", {})

    def factor(by: float) -> Any:
        class Scaled(nn.Module):
            num_classes: int

            @nn.compact
            def __call__(self, images: Any, train: bool) -> Any:
                return by * nn.Dense(self.num_classes)(images.reshape(len(images), -1))

        return Scaled

    images = datasets.load("digits").test.images[:5]
    one, two = factor(1.0), factor(-1.0)
    for name, network in (("one", one), ("two", two)):
        experiment.run(mine(rounds=1), name, network=network)
    for name, network in (("one", one), ("two", two)):
        expected = fednas_jax.restore(name, network=network).logits(images)
        np.testing.assert_array_equal(fednas_jax.restore(name).logits(images), expected)
    # Another process, which has been given the second alone, resumes its run.
    user_code._given.clear()
    experiment.run(mine(rounds=1), "two", network=two)
    # An object of this name from another file is none that the model was trained with.
    user_code._given.clear()
    user_code.give(nn.Module, "network_Scaled")
    with pytest.raises(UserError, match=r"the object is needed: restore\(folder, network=\.\.\.\)"):
        fednas_jax.restore("one")


def test_weights_of_one_with_fields_of_its_own(elsewhere: Path) -> None:
    Path("small.py").write_text(SMALL + WIDE)
    wide = {"network.name": "small.py:WIDE", "rounds": 1}
    experiment.run(mine(**wide), "run")
    experiment.run(mine(**wide, warm_start="run"), "same")
    with pytest.raises(UserError, match=r"has width 8; config\.network\.width is 3, and the same"):
        experiment.run(mine(**wide, **{"warm_start": "run", "network.width": 3}), "other")


def test_it_is_compared_with_others_each_with_its_own_fields(elsewhere: Path) -> None:
    Path("small.py").write_text(SMALL + WIDE)
    Path("c.py").write_text("from tests.networks.test_brought import mine as get_config\n")
    fields = {"network.width": "3", "network.padding": "flower"}
    names = ["2nn", "cnn", "small.py:Small", "small.py:WIDE"]
    plan = comparison.plan("c.py", fields, "", names, [0], Path("out"))
    found = {name: dict(next(iter(row.values()))["network"]) for name, row in plan.rows.items()}
    assert found == {
        "2nn": {"name": "2nn"},
        "cnn": {"name": "cnn", "padding": "flower"},
        "small.py:Small": {"name": "small.py:Small"},
        "small.py:WIDE": {"name": "small.py:WIDE", "width": 3},
    }
    with pytest.raises(UserError, match=r"^config\.network\.with: no such field"):
        comparison.plan("c.py", {"network.with": "3"}, "", names, [0], Path("out"))
    with pytest.raises(UserError, match=r"^config\.network\.width: no such field"):
        comparison.plan("c.py", fields, "", names[:3], [0], Path("out"))


def compared() -> dict[str, Any]:
    rows = json.loads(Path("out/comparison.json").read_text())["rows"]
    return {row["network"]: row for row in rows}


def test_a_table_has_it(elsewhere: Path) -> None:
    Path("c.py").write_text("from tests.networks.test_brought import mine as get_config\n")
    command = ["--config=c.py", "--networks=2nn,small.py:Small", "--workdir=out", "--seeds=0"]
    assert compare.main([*command, "--config.rounds=1"]) == 0
    rows = compared()
    # 4 x 4 pixels of 8 channels, each of 9 taps and a bias; then all of them to 10 logits.
    assert rows["small.py:Small"]["parameters"] == 8 * 10 + 128 * 10 + 10
    assert rows["small.py:Small"]["multiply_adds"] == 128 * 9 + 128 * 10
    assert rows["2nn"]["runs"][0]["error"] == rows["small.py:Small"]["runs"][0]["error"] == ""
    # What is done is not taken over where the code has changed.
    Path("small.py").write_text(SMALL + "# changed\n")
    assert compare.main([*command, "--config.rounds=1"]) == 2
    rows = compared()
    assert "small.py is not as it was when the run in" in rows["small.py:Small"]["runs"][0]["error"]


def test_weights_and_multiply_adds_of_layers_that_are_not_ours() -> None:
    namespace: dict[str, Any] = {}
    exec(SMALL, namespace)
    small = namespace["Small"](num_classes=10, width=3)
    assert networks.parameter_count(small, (8, 8, 1)) == 9 * 3 + 3 + 48 * 10 + 10
    # 4 x 4 pixels of 3 channels, each of 9 taps; then all of them to 10 logits.
    assert networks.multiply_adds(small, (8, 8, 1)) == 16 * 3 * 9 + 48 * 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Small = 3", "small.py:Small is of type int; a linen module, or a function that returns"),
        ("def Small(num_classes): return 3", "fails (TypeError: it returns a int); a linen module"),
        ("def Small(): pass", "fails (TypeError: Small() got an unexpected keyword argument 'num_"),
        (SMALL.replace("self.num_classes)", "7)"), "makes shape [1, 7] of inputs of [1, 8, 8, 1]"),
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
        experiment.run(mine(**{"network.name": "cnnn"}), "run")
    assert not networks.is_large("small.py:Small")
