"""Algorithms of a user's own: docs/extending.md from a folder elsewhere, and what is refused."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax import main, sweep
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.fedavg.config import DECLARED as FEDAVG
from fednas_jax.algorithms.room import ClientLayout, Room
from fednas_jax.data.task import Scores
from fednas_jax.experiment import runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.algorithm import Algorithm, ClientUpdate, Phase
from fednas_jax.fields.field import FLOAT, Field, above, at_least
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from tests.tiny import ROOT, fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", EXTENDING, re.DOTALL)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of the repository, with the files of docs/extending.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_added", {})
    Path("uniform.py").write_text(BLOCKS[0])
    Path("my_config.py").write_text(BLOCKS[1])
    return tmp_path


def mine(**fields: Any) -> Any:
    """The smallest run of the algorithm of docs/extending.md."""
    config = fedavg_config()
    config.algorithm = "uniform.py:ALGORITHM"
    config.rounds = 2
    config.update_from_flattened_dict(fields)
    return config


def test_the_example_is_as_short_as_it_is_promised(elsewhere: Path) -> None:
    code = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(code) <= 30
    assert all(len(block.splitlines()) <= 40 for block in BLOCKS)


def test_the_example_runs_as_a_command_and_is_recorded(elsewhere: Path) -> None:
    assert main.main(["--config=my_config.py", "--config.report.page=false"]) == 0
    run = json.loads(Path("runs/my_config/run.json").read_text())
    assert run["config"]["algorithm"] == "uniform.py:ALGORITHM"
    source = run["user_code"]["algorithm"]
    assert Path(source["path"]).samefile("uniform.py")
    assert source["sha256"] == hashlib.sha256(Path("uniform.py").read_bytes()).hexdigest()


def test_all_clients_weigh_the_same(elsewhere: Path) -> None:
    """Their mean is that of FedAvg where all have as many examples, and another where not."""
    equal = {"dataset.max_train_examples": 84, "client.held_out_fraction": 0.0}
    equal |= {"held_out_every": 1, "clients_per_round": 0}
    losses = {}
    for name, more in (("equal", equal), ("unlike", {"partition.name": "hetero"})):
        for algorithm in ("uniform.py:ALGORITHM", "fedavg"):
            folder = Path(f"{name}-{algorithm[:4]}")
            runner.run(mine(algorithm=algorithm, **more), folder)
            losses[name, algorithm[:4]] = read_rows(folder / "metrics.jsonl")[-1]["test_loss"]
    np.testing.assert_allclose(losses["equal", "unif"], losses["equal", "feda"], rtol=1e-5)
    assert abs(losses["unlike", "unif"] / losses["unlike", "feda"] - 1) > 1e-4


def test_a_run_does_not_go_on_with_changed_code(elsewhere: Path) -> None:
    runner.run(mine(), "run")
    Path("uniform.py").write_text(BLOCKS[0] + "# changed\n")
    with pytest.raises(UserError, match=r"^config\.algorithm: .*uniform\.py is not as it was when"):
        runner.run(mine(), "run")


def test_a_sweep_has_it_beside_ours(elsewhere: Path) -> None:
    Path("c.py").write_text("from tests.algorithms.test_brought import swept as get_config\n")
    command = ["--config=c.py", "--workdir=out", "--config.algorithm=fedavg,uniform.py:ALGORITHM"]
    assert sweep.main(command) == 0
    runs = json.loads(Path("out/sweep.json").read_text())["runs"]
    assert [run["config"]["algorithm"] for run in runs] == ["fedavg", "uniform.py:ALGORITHM"]
    Path("uniform.py").write_text(BLOCKS[0] + "# changed\n")
    assert sweep.main(command) == 2, "what is done is not taken over where the code has changed"


def swept(variant: str) -> Any:
    return mine(rounds=1)


def test_a_search_may_be_followed_by_a_training_of_ones_own(elsewhere: Path) -> None:
    from fednas_jax.experiment import stages

    config = schema.default()
    train = mine(**{"network.name": "genotype"})
    train.dataset = config.dataset
    config.then_train = train
    assert stages.resolve(config, {}).train["algorithm"] == "uniform.py:ALGORITHM"


PRUNED = next(block for block in BLOCKS if "fedavg_pruned" in block)


def test_the_example_of_several_stages_runs(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pruned.py").write_text(PRUNED)
    Path("staged_config.py").write_text(BLOCKS[1].replace("uniform.py", "pruned.py"))
    command = ["--config=staged_config.py", "--config.report.page=false", "--workdir=run"]
    assert main.main(command) == 0
    trained, pruned, tuned = (fednas_jax.restore(f"run/{n}") for n in ("train", "prune", "tune"))
    for there, left in zip(
        *(map(jax.tree.leaves, (m.variables for m in (trained, pruned)))), strict=True
    ):
        kept = np.abs(there) >= np.median(np.abs(there))
        np.testing.assert_array_equal(left, np.where(kept, there, 0))
    left = sum(np.count_nonzero(x) for x in jax.tree.leaves(pruned.variables))
    assert json.loads(Path("run/prune/summary.json").read_text())["left"] == left
    assert fednas_jax.restore("run").path == tuned.path
    capsys.readouterr()
    Path("pruned.py").write_text(PRUNED + "# changed\n")
    assert main.main(command) == 2
    said = capsys.readouterr().err
    assert re.search(r"^fednas_jax: error: config\.algorithm: .*pruned\.py is not as it was", said)
    assert said.count("\n") == 1


# A third algorithm, unlike both -------------------------------------------------------------------

NOISE = Field("toy.step", 0.5, FLOAT, above(0, 1), "share of the way to the clients' mean")


def toy_room() -> Room:
    """One number for each class: the clients' share of it. Its state is none of a network's."""

    def build(config: Any, dataset: Any) -> Algorithm:
        def init(key: jax.Array) -> Any:
            return {"shares": jnp.zeros(dataset.num_classes), "rounds": jnp.zeros((), jnp.int32)}

        def count(state: Any, client: Any, facts: Any, examples: Any, key: jax.Array) -> Any:
            there = jnp.arange(client.train.shape[0]) < client.num_train
            labels = jax.nn.one_hot(examples.targets[client.train], dataset.num_classes)
            counts = (labels * there[:, None]).sum(axis=0)
            weight = client.num_train.astype(jnp.float32)
            metrics = {
                "train_loss": counts.max() / jnp.maximum(weight, 1),
                "train_accuracy": jnp.float32(0),
                "local_steps": client.local_steps.astype(jnp.float32),
                "weight": weight,
                "finite": jnp.bool_(True),
                "classes": (counts > 0).sum().astype(jnp.float32),
            }
            return ClientUpdate({"shares": counts}, weight, metrics)

        def move(state: Any, sums: Any, weights: Any, facts: Any) -> Any:
            mean = sums["shares"] / jnp.maximum(weights, 1)
            step = config["toy"]["step"]
            shares = state["shares"] + step * (mean - state["shares"])
            return {"shares": shares, "rounds": state["rounds"] + 1}

        def evaluate(state: Any, images: jax.Array, labels: jax.Array) -> Any:
            shares = state["shares"][labels]
            correct = (labels == state["shares"].argmax()).astype(jnp.float32)
            return Scores(1 - shares, correct, jnp.ones(labels.shape, jnp.int32))

        return Algorithm(init, [Phase(count, move)], evaluate)

    return Room(lambda config: ClientLayout(), build, lambda config: {"name": "shares"})


TOY = Declared("toy", "Toy", toy_room, fields=(NOISE,))


def toy_config(**fields: Any) -> Any:
    registry.add(TOY)
    config = schema.default("toy")
    tiny = fedavg_config()
    config.dataset, config.partition = tiny.dataset, tiny.partition
    config.augment, config.report = tiny.augment, tiny.report
    config.batch_size, config.local_epochs, config.rounds = 4, 1, 3
    config.update_from_flattened_dict(fields)
    return config


def test_a_third_algorithm_goes_through_the_whole_of_a_run(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = runner.run(toy_config(), "toy", algorithm=TOY)
    assert summary["rounds"] == 3
    rows = read_rows(Path("toy/metrics.jsonl"))
    # All shares go half the way to their means each round: the loss falls by halves.
    losses = [row["test_loss"] for row in rows if row["test_loss"] is not None]
    assert losses[0] == 1.0
    assert 0 < losses[-1] < 1
    assert all(5 < row["classes"] <= 10 for row in rows[1:]), "whatever clients measure is kept"
    run = json.loads(Path("toy/run.json").read_text())
    assert run["config"]["toy"] == {"step": 0.5}
    assert run["user_code"]["algorithm"]["path"] == __file__
    assert not Path("toy/genotypes").exists()


def test_a_third_algorithm_is_stopped_and_gone_on_with(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(toy_config(), "whole", algorithm=TOY)
    record = Experiment._record

    def stop(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == 2:
            raise RuntimeError("stopped on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_record", stop)
        with pytest.raises(RuntimeError, match="stopped on purpose"):
            runner.run(toy_config(checkpoint_every=1), "parts", algorithm=TOY)
    runner.run(toy_config(checkpoint_every=1), "parts", algorithm=TOY)
    names = ("round", "train_loss", "test_loss", "held_out_loss")
    one, two = (
        [[row[name] for name in names] for row in read_rows(Path(folder) / "metrics.jsonl")]
        for folder in ("whole", "parts")
    )
    assert one == two


def test_its_fields_are_checked_and_listed(elsewhere: Path, capsys: Any) -> None:
    with pytest.raises(UserError, match=r"config\.toy\.step: 2\.0 is not usable; at most 1"):
        schema.check(toy_config(**{"toy.step": 2.0}))
    stepp = r"config\.toy\.stepp: no such field; did you mean config\.toy\."
    with pytest.raises(UserError, match=stepp):
        schema.resolve(toy_config(), {"toy.stepp": "0.1"})
    Path("c.py").write_text(
        "from fednas_jax import config\ndef get_config(variant=''):\n"
        "    return config.default('toy')\n"
    )
    assert main.main(["--config=c.py", "--help"]) == 0
    assert "  toy.step=0.5\n      share of the way to the clients' mean" in capsys.readouterr().out


def test_fields_of_networks_are_refused_that_it_does_not_read(elsewhere: Path) -> None:
    schema.check(toy_config())
    message = r"network\.name: '2nn' is not used where config\.algorithm is 'toy'"
    with pytest.raises(UserError, match=message):
        schema.check(toy_config(**{"network.name": "2nn"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ALGORITHM = 3", "uniform.py:ALGORITHM is of type int; a fednas_jax.algorithms.declared"),
        ("", "uniform.py has no 'ALGORITHM'"),
        ("import nothing_of_this_name", "uniform.py:1: ModuleNotFoundError"),
        (
            "from fednas_jax.algorithms.fedavg.config import DECLARED\n"
            "ALGORITHM = DECLARED._replace(room=lambda: 3)",
            "the room of uniform.py:ALGORITHM is of type int; a fednas_jax.algorithms.room.Room is",
        ),
        (
            "from fednas_jax.algorithms.fedavg.config import DECLARED\n"
            "ALGORITHM = DECLARED._replace(room=lambda: 1 / 0)",
            "uniform.py:2 (ZeroDivisionError: division by zero); a function() that returns a fedna",
        ),
        (
            "from fednas_jax.algorithms.fedavg.config import DECLARED\n"
            "ALGORITHM = DECLARED._replace(room='no_such.room')",
            "the room of uniform.py:ALGORITHM: there is no module 'no_such.room'",
        ),
        (
            "from fednas_jax.algorithms.fedavg.config import DECLARED\n"
            "ALGORITHM = DECLARED._replace(check=lambda values: values['nothing'])",
            "the check of uniform.py:ALGORITHM fails at",
        ),
    ],
)
def test_what_is_no_algorithm_is_refused(elsewhere: Path, text: str, says: str) -> None:
    Path("uniform.py").write_text(text)
    with pytest.raises(UserError) as raised:
        runner.run(mine(), "run")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not Path("run").exists()


def test_a_name_or_a_field_that_is_taken_is_refused(elsewhere: Path) -> None:
    registry.add(TOY)
    registry.add(TOY._replace(title="Of the same room, as of a cell that is run again"))
    with pytest.raises(
        UserError, match=r"'toy' is the name of two algorithms, with the rooms .*toy_room and .*"
    ):
        registry.add(TOY._replace(room="another.module"))
    with pytest.raises(UserError, match="'fedavg' is one of the package's own; another name is"):
        registry.add(FEDAVG._replace(title="mine"))
    with pytest.raises(UserError, match=r"is not usable; a fednas_jax\.algorithms\.declared"):
        registry.add("fedavg")  # type: ignore[arg-type]
    other = Field("rounds", 3, (int,), at_least(1), "another")
    registry.add(TOY._replace(name="takes_rounds", fields=(other,)))
    with pytest.raises(UserError, match="'takes_rounds' declares a field 'rounds', which"):
        schema.default("takes_rounds")
