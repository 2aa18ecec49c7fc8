"""Estimates of how long runs will take, worked out by hand."""

from pathlib import Path

import pytest

from fednas_jax import config as schema
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.studies import estimates, runs
from fednas_jax.studies.estimates import Done, Job, Rest
from tests.stand_in import stand_in
from tests.studies.test_runs import planned


def job(work: float, programs: str = "p", steps: str = "s", weight: float | None = None) -> Job:
    return Job("fedavg", steps, programs, work, weight)


def test_rounds_scale_and_programs_are_compiled_once() -> None:
    # 70 s, of which 20 compiling: 5 s for each of 10 rounds.
    done = [Done(job(10), 70.0, 20.0)]
    assert estimates.rest(done, [job(10), job(4)]) == Rest(5 * 14, 5 * 14, 0)
    # Other programs: 20 s more, once.
    left = [job(10), job(2, "q"), job(2, "q")]
    assert estimates.rest(done, left) == Rest(5 * 14 + 20, 5 * 14 + 20, 0)


def test_each_run_refines() -> None:
    done = [Done(job(10), 70.0, 20.0), Done(job(10), 33.0, 3.0)]
    # 5 and 3 s a round: 4 s; compiled programs took 3 s the second time.
    assert estimates.rest(done, [job(10)]) == Rest(4 * 10 + 3, 4 * 10 + 3, 0)
    # Programs that are new take as long as the first time.
    assert estimates.rest(done, [job(10, "q")]) == Rest(4 * 10 + 20, 4 * 10 + 20, 0)


def test_other_networks_by_their_weight() -> None:
    small, large = job(10, "p", "2nn", 2.0), job(10, "q", "cnn", 12.0)
    done = [Done(small, 15.0, 5.0)]  # 1 s a round
    # Between 1 s and 12 / 2 times 1 s for each of 10 rounds, and 5 s to compile.
    assert estimates.rest(done, [large]) == Rest(10 + 5, 60 + 5, 0)
    assert estimates.told(done, [large]) == "1 run left, about 15 s to 65 s"
    # The other way round: 8 s or 2 / 12 of it, and 10 s.
    found = estimates.rest([Done(large, 90.0, 10.0)], [small])
    assert found == Rest(pytest.approx(8 * 2 / 12 * 10 + 10), 8 * 10 + 10, 0)
    # Once it has run itself, only that counts: 8 s a round.
    done.append(Done(large, 90.0, 10.0))
    assert estimates.rest(done, [large]) == Rest(80, 80, 0)
    # A third one is nearer to it than to the small one.
    assert estimates.rest(done, [job(1, "r", "own", 12.0)]) == Rest(8 + 7.5, 8 + 7.5, 0)
    # Without a weight: the mean of both, 4.5 s a round; compiling 7.5 s.
    assert estimates.rest(done, [job(2, "r", "own")]).seconds == 4.5 * 2 + 7.5


def test_another_algorithm_is_unknown() -> None:
    search = Job("fednas", "s", "p", 5.0)
    done = [Done(search, 50.0, 0.0)]
    left = [search, job(10), job(10, "q")]
    assert estimates.rest(done, left) == Rest(50.0, 50.0, 2)
    assert estimates.told(done, left) == (
        "3 runs left, about 50 s for 1 of them; the algorithm of the other 2 has not run yet"
    )
    assert estimates.told(done, left[1:]) == ""
    assert estimates.told([], left) == ""
    assert estimates.told(done, []) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"), (43.4, "43 s"), (99.4, "99 s"), (100, "2 min"), (754, "13 min"),
        (5969, "99 min"), (5970, "1.7 h"), (12_240, "3.4 h"), (216_000, "2.5 days"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert estimates.duration(seconds) == text


def test_what_the_time_of_a_run_depends_on() -> None:
    def of(**fields: object) -> Job:
        config = schema.default("fedavg")
        config.update_from_flattened_dict({"rounds": 6, "local_epochs": 2, **fields})
        return estimates.job(schema.resolve(config))

    first = of()
    assert first.work == 12
    assert of(seed=3) == first
    assert estimates.job(schema.default("fedavg"), done=30).work == 20 * 5
    longer = of(rounds=9, clients_fraction=0.5)
    assert longer.work == 9
    assert longer.programs == first.programs
    assert of(clients_per_round=4).work == 3  # of 16 clients
    rate = of(**{"optimizer.learning_rate": 0.5})
    assert rate.steps == first.steps
    assert rate.programs != first.programs
    assert of(**{"network.name": "2nn"}).steps != first.steps
    assert of(batch_size=8).steps != first.steps


def test_the_lines_of_several_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs; then costs are written into their folders, and a third is twice as long."""
    stand_in(monkeypatch)
    plan = [planned("one"), planned("two", seed=1)]
    assert [outcome.error for outcome in runs.run_all(plan, tmp_path)] == ["", ""]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fednas_jax: 2 runs: 2 to begin"
    assert any(line.startswith("fednas_jax: 1 run left, about ") for line in lines)
    for name in ("one", "two"):
        path = tmp_path / name / layout.SUMMARY_FILE
        write_json(path, {**read_json(path), "seconds": 70.0, "compile_seconds": 10.0})
    rounds = plan[0].config["rounds"]
    plan.append(planned("three", rounds=2 * rounds, seed=2))
    following = runs.run_all(plan, tmp_path)
    next(following)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "fednas_jax: 3 runs: 2 finished, 1 to begin",
        # 60 s for the rounds of each, twice as many now, and 10 s for the same programs again.
        "fednas_jax: 1 run left, about 2 min",
    ]
    assert "one: is already finished" in lines[2]


def test_a_run_that_fails_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise UserError("broken")

    monkeypatch.setattr(runs.runner, "run", fail)
    outcomes = list(runs.run_all([planned("one"), planned("two")], tmp_path))
    assert [outcome.error for outcome in outcomes] == ["broken", "broken"]
    assert capsys.readouterr().out.splitlines()[0] == "fednas_jax: 2 runs: 2 to begin"


def test_the_rounds_of_an_interrupted_run_are_not_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / layout.METRICS_FILE).write_text('{"round": 1}\n{"round": 2}\n{"rou')
    assert runs._rounds_made(tmp_path / "one") == 2
    assert runs._rounds_made(tmp_path / "none") == 0
    runs._Clock([planned("one"), planned("two")], [False, False], tmp_path, {})
    assert capsys.readouterr().out == "fednas_jax: 2 runs: 1 begun, 1 to begin\n"
