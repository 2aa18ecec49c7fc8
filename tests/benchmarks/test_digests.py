"""What a digest is of, and what differs between two versions."""

import json
import shutil
from pathlib import Path

from benchmarks import digests


def test_what_a_run_has_left_but_not_how_long_it_took(
    finished_search: Path, tmp_path: Path
) -> None:
    found = digests.of_run(finished_search)
    arrays = [name for name in found if name.startswith("state/")]
    assert any(name.startswith("state/arch/") for name in arrays)
    assert any(name.startswith("state/params/") for name in arrays)
    assert {"metrics.jsonl", "alphas.jsonl", "partition", "genotypes/best.json"} <= found.keys()

    run = shutil.copytree(finished_search, tmp_path / "run")
    *rows, last = (run / "metrics.jsonl").read_text().splitlines()
    slower = json.loads(last) | {"seconds": 1e6}
    (run / "metrics.jsonl").write_text("\n".join([*rows, json.dumps(slower)]))
    assert digests.differences({"run": found}, {"run": digests.of_run(run)}) == []
    worse = slower | {"test_loss": 9.0}
    (run / "metrics.jsonl").write_text("\n".join([*rows, json.dumps(worse)]))
    assert digests.differences({"run": found}, {"run": digests.of_run(run)}) == [
        "run: metrics.jsonl"
    ]


def test_what_only_one_version_has_differs() -> None:
    before = {"one": {"a": "1", "b": "2"}, "two": {"a": "1"}}
    after = {"one": {"a": "1", "c": "3"}, "three": {"a": "1"}}
    assert digests.differences(before, after) == ["one: b", "one: c", "two: a", "three: a"]
