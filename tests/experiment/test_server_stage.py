"""One stage on the server: its record, its key, its resumption; and on several ranks."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms.stage_types import ServerContext, ServerStage
from fednas_jax.experiment import server_stage
from fednas_jax.experiment import workdir as folders
from fednas_jax.federated.ranks.communicator import LOCAL
from fednas_jax.runtime.errors import UserError


def run(
    folder: Path,
    compute: Callable[[ServerContext], Any],
    communicator: Any = LOCAL,
    begun: Callable[[], None] = lambda: None,
    **fields: str,
) -> dict[str, Any]:
    config = schema.resolve(schema.default(), fields)
    stage, before = ServerStage("pick", compute), {"search": Path("/search")}
    return server_stage.run(stage, config, folder, before, begun, communicator)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_is_computed_recorded_and_summed_up(tmp_path: Path) -> None:
    seen: list[ServerContext] = []

    def compute(stage: ServerContext) -> Mapping[str, Any]:
        seen.append(stage)
        return {"found": np.arange(2), "score": np.float32(0.5), "lost": float("nan")}

    folder = tmp_path / "pick"
    summary = run(folder, compute, seed="7")
    (stage,) = seen
    assert (stage.folder, stage.before) == (folder, {"search": Path("/search")})
    assert stage.config["seed"] == 7
    by_hand = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 2), zlib.crc32(b"pick"))
    assert jax.random.key_data(stage.key).tolist() == jax.random.key_data(by_hand).tolist()
    assert {key: summary[key] for key in ("found", "score", "lost")} == {
        "found": [0, 1], "score": 0.5, "lost": None,
    }  # fmt: skip
    assert summary["seconds"] > 0
    assert json.loads((folder / "summary.json").read_text()) == summary
    record = json.loads((folder / "run.json").read_text())
    assert (record["kind"], record["config"]["seed"], record["user_code"]) == ("server", 7, {})
    (start,) = record["starts"]
    assert start["versions"]["jax"] == jax.__version__
    assert (start["ranks"], "clients_per_chunk" in start) == (1, False)


def test_what_is_finished_is_not_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(tmp_path, lambda stage: {"found": 1})
    assert run(tmp_path, lambda stage: pytest.fail("computed again")) == first
    assert f"{tmp_path}: this stage is finished" in capsys.readouterr().out
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(UserError, match=r"summary\.json: not a summary; remove it to compute the"):
        run(tmp_path, lambda stage: {})
    (tmp_path / "summary.json").unlink()
    assert run(tmp_path, lambda stage: {"found": 2})["found"] == 2
    assert len(json.loads((tmp_path / "run.json").read_text())["starts"]) == 2


def test_one_that_is_interrupted_finds_what_it_wrote(tmp_path: Path) -> None:
    def compute(stage: ServerContext) -> Mapping[str, Any]:
        half = stage.folder / "half.txt"
        if not half.exists():
            half.write_text("3")
            raise KeyboardInterrupt
        return {"found": int(half.read_text())}

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, compute)
    assert names(tmp_path) == {".lock", "run.json", "half.txt"}
    with pytest.raises(UserError, match=r"holds a run of another config \(config\.seed: 0 there"):
        run(tmp_path, compute, seed="1")
    assert run(tmp_path, compute)["found"] == 3


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (UserError("config.x: bad"), r"^stage pick: config\.x: bad$"),
        (None, "^stage pick: returns NoneType; a mapping from names to the summary's values is "),
        ({3: 1}, "^stage pick: returns dict; a mapping from names"),
        ({"seconds": 1}, "^stage pick: returns 'seconds', which is added to every summary; anothe"),
        ({"a": Path("x")}, "^stage pick: returns a value that JSON cannot hold .*Path.*; numbers,"),
    ],
)
def test_one_that_fails_leaves_nothing_behind(tmp_path: Path, returned: Any, message: str) -> None:
    def compute(stage: ServerContext) -> Any:
        (stage.folder / "checkpoints").mkdir()
        (stage.folder / "checkpoints" / "half").write_text("x")
        if isinstance(returned, Exception):
            raise returned
        return returned

    tmp_path.joinpath("notes.txt").write_text("mine")
    with pytest.raises(UserError, match=message) as raised:
        run(tmp_path, compute)
    assert "\n" not in str(raised.value)
    assert names(tmp_path) == {".lock", "notes.txt"}
    assert run(tmp_path, lambda stage: {}, seed="1").keys() == {
        "seconds", "compile_seconds", "peak_memory_bytes",
    }  # fmt: skip


def test_a_fault_in_it_is_no_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, lambda stage: {"x": 1 / 0})
    assert names(tmp_path) == {".lock"}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for content in ("[]", '{"config": {}, "clients_per_chunk": 2, "starts": []}',
                    '{"kind": "server", "config": {}}'):  # fmt: skip
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run\.json: not the record of a stage on the server;"):
            run(tmp_path, lambda stage: {})
    (tmp_path / "run.json").unlink()
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds summary\.json but no run\.json; another workdir"):
        run(tmp_path, lambda stage: {})


def test_rounds_are_not_run_in_its_folder(tmp_path: Path) -> None:
    run(tmp_path, lambda stage: {})
    with pytest.raises(UserError, match=r"run\.json: not the record of a run; another workdir is"):
        folders.recorded_run(tmp_path, schema.default())


def test_only_one_process_computes_it(tmp_path: Path) -> None:
    with folders.locked(tmp_path), pytest.raises(UserError, match="another process is running in"):
        run(tmp_path, lambda stage: {})
    assert names(tmp_path) == {".lock"}


class Teller:
    """Rank 0 of two; remembers what it said."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.said: list[str] = []

    def decide(self, value: Callable[[], Any]) -> Any:
        """As MPI does it."""
        self.said.append(json.dumps(value()))
        return json.loads(self.said[-1])


class Listener:
    """Rank 1, which hears what rank 0 said."""

    rank, size = 1, 2

    def __init__(self, said: list[str]) -> None:
        self._said = iter(said)

    def decide(self, value: Callable[[], Any]) -> Any:
        """As MPI does it."""
        return json.loads(next(self._said))


def test_rank_0_computes_and_the_others_are_told(tmp_path: Path) -> None:
    teller, begun = Teller(), []
    summary = run(tmp_path, lambda stage: {"found": (1, 2)}, teller, lambda: begun.append(0))
    assert summary["found"] == [1, 2]
    assert json.loads((tmp_path / "run.json").read_text())["starts"][0]["ranks"] == 2

    def fail(stage: ServerContext) -> Any:
        pytest.fail("computed on another rank too")

    assert run(tmp_path, fail, Listener(teller.said), lambda: begun.append(1)) == summary
    assert begun == [0]


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (UserError("config.x: bad"), "stage pick: config.x: bad"),
        (ZeroDivisionError("by zero"), "stage pick: ZeroDivisionError: by zero"),
    ],
)
def test_what_goes_wrong_reaches_all_ranks(tmp_path: Path, error: Exception, heard: str) -> None:
    def fail(stage: ServerContext) -> Any:
        raise error

    teller = Teller()
    with pytest.raises(type(error)):
        run(tmp_path, fail, teller)
    with pytest.raises(UserError) as raised:
        run(tmp_path, fail, Listener(teller.said))
    assert str(raised.value) == heard
