"""What a user's functions are told after each round, and what comes of those that fail."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fednas_jax import experiment, main
from fednas_jax.checkpoints import checkpoint
from fednas_jax.experiment.callbacks import Callbacks, Event
from fednas_jax.federated.ranks.communicator import LOCAL
from fednas_jax.fields.extension import Extension
from fednas_jax.fields.field import INT, Field, at_least
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError
from tests.tiny import ROOT, fedavg_config, final_state

pytestmark = pytest.mark.usefixtures("tiny_runs")
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
(NORMS,) = [block for block in BLOCKS if "def norm" in block]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_code, "_given", {})
    Path("norms.py").write_text(NORMS)
    Path("uniform.py").write_text(BLOCKS[0])
    Path("my_config.py").write_text(BLOCKS[1])
    return tmp_path


def mine(**fields: Any) -> Any:
    config = fedavg_config()
    config.rounds = 3
    config.report.plots = config.report.tensorboard = False
    config.update_from_flattened_dict(fields)
    return config


def test_the_example_writes_down_what_the_checkpoint_has(elsewhere: Path) -> None:
    command = ["--config=my_config.py", "--workdir=run", "--config.callbacks=norms.py:norm"]
    quiet = ["--config.report.page=false", "--config.report.plots=false"]
    assert main.main([*command, *quiet]) == 0
    lines = [line.split() for line in Path("run/norms.txt").read_text().splitlines()]
    assert [number for number, _ in lines] == ["1", "2"]
    params = checkpoint.read_saved(Path("run/checkpoints/000002"), ("params",)).variables["params"]
    squares = sum(float((np.asarray(leaf) ** 2).sum()) for leaf in jax.tree.leaves(params))
    assert float(lines[1][1]) == pytest.approx(np.sqrt(squares), rel=1e-5)
    source = json.loads(Path("run/run.json").read_text())["user_code"]["callbacks:norms.py:norm"]
    assert Path(source["path"]).samefile("norms.py")


def test_objects_are_told_of_each_round_and_change_nothing(elsewhere: Path) -> None:
    told: list[Event] = []

    def meddle(event: Event) -> None:
        event.row.clear()

    def listen(event: Event) -> None:
        told.append(event)

    experiment.run(mine(), "alone")
    experiment.run(mine(), "told", callbacks=[meddle, listen])
    assert final_state(Path("alone")) == final_state(Path("told"))
    rows = read_rows(Path("told/metrics.jsonl"))
    assert [event.row for event in told] == rows[1:]
    assert [event.round for event in told] == [1, 2, 3]
    assert told[0].folder == Path("told")
    assert told[0].config["rounds"] == 3


def test_one_that_fails_ends_the_run_and_the_round_is_kept(elsewhere: Path) -> None:
    path = elsewhere / "fails.py"
    path.write_text(
        "def late(event):\n    if event.round == 1:\n        raise ValueError('no\\nmore')\n"
    )
    config = mine(checkpoint_every=10, callbacks=f"{path}:late")
    with pytest.raises(UserError) as raised:
        experiment.run(config, "run")
    assert str(raised.value) == (
        f"round 1: config.callbacks: {path}:late fails at {path}:3 (ValueError: no more); "
        "mend it; the round is kept"
    )
    # No checkpoint is due after this round, and it is not the best so far.
    assert Path("run/checkpoints/000001").exists()
    assert read_rows(Path("run/metrics.jsonl"))[-1]["round"] == 1
    # It may be mended, and the run goes on: the same bits as without it.
    path.write_text(
        "def late(event):\n    with open('seen', 'a') as f: print(event.round, file=f)\n"
    )
    experiment.run(config, "run")
    assert Path("seen").read_text() == "2\n3\n"
    experiment.run(mine(checkpoint_every=10), "alone")
    assert final_state(Path("run")) == final_state(Path("alone"))
    run = json.loads(Path("run/run.json").read_text())
    key = f"callbacks:{path}:late"
    assert "user_code" not in run["starts"][0]
    now = user_code.load(f"{path}:late", "here").source.sha256
    assert run["starts"][1]["user_code"][key]["sha256"] == now != run["user_code"][key]["sha256"]


def test_a_callback_may_be_added_and_left_out(elsewhere: Path) -> None:
    def fail(event: Event) -> None:
        raise ValueError("stopped on purpose")

    with pytest.raises(UserError, match=r"round 1: config\.callbacks: given:callbacks_fail fails"):
        experiment.run(mine(), "run", callbacks=fail)
    every = Field("log.every", 2, INT, at_least(1), "Rounds between lines")
    with pytest.raises(UserError, match=r"round 2: config\.callbacks: given:callbacks_fail#2 fail"):
        experiment.run(mine(), "run", callbacks=[Extension(fail, (every,))])
    experiment.run(mine(), "run")
    starts = json.loads(Path("run/run.json").read_text())["starts"]
    assert starts[1]["changed"] == {"log.every": 2}
    assert starts[2]["changed"] == {"callbacks": ""}


@pytest.mark.parametrize("value", [0, True, "stop"])
def test_one_that_returns_something_is_refused(elsewhere: Path, value: Any) -> None:
    kept: list[int] = []
    named = user_code.give(lambda event: value, "callback")
    callbacks = Callbacks({"callbacks": named}, Path("run"), LOCAL)
    with pytest.raises(UserError) as raised:
        callbacks.tell({"round": 4}, None, lambda: kept.append(4))
    assert str(raised.value) == (
        f"round 4: config.callbacks: given:callback returns {type(value).__name__}; "
        "a function(event) that returns nothing is needed, see docs/extending.md"
    )
    assert kept == [4]


def test_what_is_no_function(elsewhere: Path) -> None:
    Path("bad.py").write_text("X = 3\ndef none(): pass\n")
    with pytest.raises(UserError, match=r"^config\.callbacks: bad\.py:X is of type int; a"):
        experiment.run(mine(callbacks="norms.py:norm,bad.py:X"), "run")
    assert not Path("run").exists()
    callbacks = Callbacks({"callbacks": "bad.py:none"}, Path("run"), LOCAL)
    with pytest.raises(UserError, match=r"bad\.py:none fails \(TypeError: none\(\) takes 0 pos"):
        callbacks.tell({"round": 1}, None, lambda: None)
