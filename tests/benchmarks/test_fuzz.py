"""A few hundred inputs for everything that reads a file; `benchmarks.fuzz` tries 10,000 each."""

import pickle
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from benchmarks import fuzz, fuzz_inputs
from benchmarks.fuzz_targets import Target, targets
from fednas_jax.runtime.errors import UserError

NAMES = (
    "config overrides", "config values", "genotype JSON", "partition files", "table CSV",
    "own .npz", "run files", "checkpoints' JSON",
)  # fmt: skip


@pytest.fixture(scope="module")
def watch() -> fuzz.Watch:
    return fuzz.Watch()


@pytest.fixture(scope="module")
def all_targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("targets"))


@pytest.mark.filterwarnings("ignore")  # of damaged headers, as NumPy sees them
@pytest.mark.parametrize("name", NAMES)
def test_refused_in_a_line_or_read(
    name: str, all_targets: dict[str, Target], watch: fuzz.Watch
) -> None:
    count = 20 if name == "checkpoints' JSON" else 100  # whose arrays take a while
    row = fuzz.fuzz(name, all_targets[name], count, 1, watch)
    assert row.met, row


def test_every_target_is_tried(all_targets: dict[str, Target]) -> None:
    assert tuple(all_targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_some_inputs_are_read_and_some_are_refused(
    name: str, all_targets: dict[str, Target], tmp_path: Path
) -> None:
    if name in ("run files", "checkpoints' JSON"):
        pytest.skip("each input is read by several, of which some refuse")
    target, outcomes = all_targets[name], set()

    @hypothesis.settings(
        max_examples=60,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.seed(0)
    @hypothesis.given(target.inputs)
    def check(given: Any) -> None:
        target.put(given, tmp_path)
        try:
            target.read(given, tmp_path)
            outcomes.add("read")
        except UserError:
            outcomes.add("refused")

    check()
    assert outcomes == {"read", "refused"}


def test_what_is_not_survived_ends_the_row(
    watch: fuzz.Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crashes(content: bytes, folder: Path) -> None:
        if b"x" in content:
            raise KeyError("x")

    row = fuzz.fuzz("crash", Target(fuzz_inputs.damaged_bytes(b"axb"), crashes), 50, 0, watch)
    assert not row.met
    assert "KeyError" in capsys.readouterr().err


def test_the_watch_sees_what_is_written_removed_and_unpickled(
    watch: fuzz.Watch, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("")
    pickled = pickle.dumps(Path("x"))
    for forbidden in (
        lambda: (tmp_path / "new").write_text(""),
        lambda: (tmp_path / "there").unlink(),
        lambda: (tmp_path / "folder").mkdir(),
        lambda: pickle.loads(pickled),
    ):
        with pytest.raises(AssertionError, match="does more than read"), watch():
            forbidden()
    with watch():
        (tmp_path / "new").read_text()


def test_a_line_is_a_line() -> None:
    assert str(UserError("config.\nx\x00: 'ä'; no\u2028")) == "config.\\nx\\x00: 'ä'; no\\u2028"
