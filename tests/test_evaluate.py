"""The command that scores a checkpoint: what it says agrees with what the model predicts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fednas_jax
from fednas_jax.data import datasets
from fednas_jax.evaluate import main
from tests.tiny import fedavg_config, first_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a 2NN for digits, as it begins; its test set is 30 examples."""
    config = fedavg_config()
    config.seed = 3
    folder = tmp_path_factory.mktemp("evaluate")
    first_checkpoint(config, folder)
    return folder


def right(run: Path, images: np.ndarray, labels: np.ndarray) -> float:
    return float((fednas_jax.restore(run).predict(images) == labels).mean())


def test_the_runs_own_test_set(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(run)]) == 0
    told = json.loads((run / "evaluation" / "evaluation.json").read_text())
    test = datasets.load("digits", seed=3, max_test_examples=30).test
    assert told["examples"] == 30
    assert told["accuracy"] == pytest.approx(right(run, test.images, test.labels))
    assert np.array(told["confusion"]).sum(axis=1).tolist() == np.bincount(test.labels).tolist()
    assert f"{told['accuracy']:.2%} of 30 examples of the test set of digits correct" in (
        capsys.readouterr().out
    )
    assert (run / "evaluation" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_data_whole_is_cut_as_the_run_cut_it(run: Path, tmp_path: Path) -> None:
    """Not by the command's own seed, which would score examples that were trained on."""
    assert main([str(run), "--dataset=digits", f"--out={tmp_path / 'out'}"]) == 0
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    test = datasets.load("digits", seed=3).test
    assert told["examples"] == len(test.labels) > 30
    assert told["accuracy"] == pytest.approx(right(run, test.images, test.labels))


def test_other_data_are_not_reduced_as_the_run_reduced_its_own(run: Path, tmp_path: Path) -> None:
    """The run tests on 30 of its examples; of another data set all 60 that it has are scored."""
    digits = datasets.load("digits", seed=3)  # its test images are not learnt from
    train, test = digits.train, digits.test
    other = tmp_path / "other.npz"
    np.savez(
        other,
        images=train.images[:200],
        labels=train.labels[:200],
        class_names=np.array(digits.class_names),
        test_images=test.images[:60],
        test_labels=test.labels[:60],
    )
    assert main([str(run), f"--dataset={other}", f"--out={tmp_path / 'out'}"]) == 0
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["examples"] == 60
    assert told["accuracy"] == pytest.approx(right(run, test.images[:60], test.labels[:60]))


def test_an_npz_of_ones_own(run: Path, tmp_path: Path) -> None:
    digits = datasets.load("digits", seed=3).test  # what the run has not learnt from
    images, labels = digits.images[:20], np.full(20, 4)  # one class alone
    np.savez(tmp_path / "own.npz", images=images[..., 0], labels=labels)
    assert main([str(run), f"--npz={tmp_path / 'own.npz'}", "--round=1"]) == 0
    told = json.loads((run / "evaluation-own" / "evaluation.json").read_text())
    assert told["accuracy"] == pytest.approx(right(run, images, labels))
    assert [entry["examples"] for entry in told["classes"]] == [0] * 4 + [20] + [0] * 5


def test_a_table_of_image_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """By its path, all of it or its test set; the folder of results has the data's name."""
    digits = datasets.load("digits", seed=3).test  # what the run has not learnt from
    one_each = np.unique(digits.labels, return_index=True)[1]
    chosen = [*one_each, *np.setdiff1d(np.arange(20), one_each)[:5]]
    images, labels = digits.images[chosen], digits.labels[chosen]
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,{label}" for i, label in enumerate(labels)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    splits = ["train"] * 10 + ["test"] * 5
    split = [f"{row},{name}" for row, name in zip(rows, splits, strict=True)]
    (tmp_path / "both.csv").write_text("\n".join(["path,label,split", *split]))
    monkeypatch.chdir(tmp_path)
    for argument, first, name in (("--npz=all.csv", 0, "all"), ("--dataset=both.csv", 10, "both")):
        assert main([str(run), argument]) == 0
        told = json.loads((run / f"evaluation-{name}" / "evaluation.json").read_text())
        assert told["examples"] == 15 - first
        assert told["accuracy"] == pytest.approx(right(run, images[first:], labels[first:]))
    assert_refused([str(run), "--npz=both.csv"], "both.csv has training and test examples", capsys)
    assert_refused([str(run), "--npz=."], "lies directly in .; CLASS/FILE or CLIENT", capsys)


@pytest.fixture(scope="module")
def of_sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The workdir and the data of a 2NN for the digits 1, 2 and 5 of sites that have names."""
    digits = datasets.load("digits").train
    chosen = np.isin(digits.labels, (1, 2, 5))
    folder = tmp_path_factory.mktemp("sites")
    sites = np.array(["North", "East", "West"])[np.arange(chosen.sum()) % 3]
    kept = {"images": digits.images[chosen], "labels": digits.labels[chosen, None]}
    np.savez(folder / "sites.npz", **kept, client=sites)
    config = fedavg_config()
    config.dataset.name, config.partition.name = folder / "sites.npz", "natural"
    config.dataset.max_test_examples = 0
    first_checkpoint(config, folder / "run")
    return folder / "run", folder / "sites.npz"


def test_scores_of_each_client_by_its_name(
    of_sites: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    run, path = of_sites
    assert main([str(run)]) == 0
    told = json.loads((run / "evaluation" / "evaluation.json").read_text())
    data, model = datasets.load(str(path), max_train_examples=88), fednas_jax.restore(run)
    assert model.class_names == ("1", "2", "5")
    correct = model.predict(data.test.images) == data.test.labels
    np.testing.assert_array_equal(
        correct,
        model.predict_names(data.test.images) == np.array(("1", "2", "5"))[data.test.labels],
    )
    assert [entry["name"] for entry in told["clients"]] == ["East", "North", "West"]
    for k, entry in enumerate(told["clients"]):
        own = data.test.client == k
        assert entry["examples"] == own.sum() > 0
        assert entry["accuracy"] == pytest.approx(correct[own].mean())
    lines = capsys.readouterr().out.splitlines()
    after = lines.index("By client:")
    assert [line.split()[0] for line in lines[after + 1 : after + 4]] == ["East", "North", "West"]


def test_labels_with_gaps_mean_the_same_in_another_file(
    of_sites: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, _ = of_sites
    saved = json.loads((run / "checkpoints/000001/model.json").read_text())
    assert saved["data"]["labels"] == [1, 2, 5]
    images = 255 - datasets.load("digits").test.images[:20]
    predicted = fednas_jax.restore(run).predict(images)
    labels = np.array([5, 1])[np.arange(20) % 2]
    accuracy = float((predicted == np.array([2, 0])[np.arange(20) % 2]).mean())
    other = {"images": images, "client": np.arange(20) % 2 * 7 + 3}
    names = np.array(["5", "1"])
    for arrays in (
        {"labels": labels},
        {"labels": labels.astype(str)},
        {"labels": np.arange(20) % 2, "class_names": names},
    ):
        np.savez(tmp_path / "other.npz", **other, **arrays)
        for flag in ("npz", "dataset"):
            out = tmp_path / flag
            arguments = [f"--{flag}={tmp_path / 'other.npz'}", f"--out={out}"]
            assert main([str(run), *arguments]) == 0
            told = json.loads((out / "evaluation.json").read_text())
            sizes = [entry["examples"] for entry in told["classes"]]
            assert sizes == ([10, 0, 10] if flag == "npz" else [2, 0, 2])
            (out / "evaluation.json").unlink()
            if flag == "npz":
                assert told["accuracy"] == pytest.approx(accuracy)
                assert [entry["name"] for entry in told["clients"]] == ["3", "10"]
    assert "has no class_names" not in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", images=images, labels=np.arange(20) % 3)
    message = "other.npz: label 0; one of 1, 2, 5, the labels of this model's classes, is needed"
    assert_refused([str(run), f"--npz={tmp_path / 'other.npz'}"], message, capsys)


def test_of_many_clients_the_lowest_are_printed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    digits = datasets.load("digits", seed=3).test
    client = np.arange(60) % 30
    np.savez(
        tmp_path / "x.npz", images=digits.images[:60], labels=digits.labels[:60], client=client
    )
    assert main([str(run), f"--npz={tmp_path / 'x.npz'}", f"--out={tmp_path / 'out'}"]) == 0
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())["clients"]
    assert [entry["name"] for entry in told] == [str(k) for k in range(30)]
    lines = capsys.readouterr().out.splitlines()
    after = lines.index("By client, the 20 lowest of 30; evaluation.json has all:")
    shown = [line.split()[0] for line in lines[after + 1 : after + 21]]
    lowest = sorted(told, key=lambda entry: entry["accuracy"])[:20]
    assert shown == [entry["name"] for entry in lowest]


def test_scores_of_something_else_are_not_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    digits = datasets.load("digits").test
    np.savez(tmp_path / "own.npz", images=digits.images[:20], labels=digits.labels[:20])
    out = tmp_path / "out"
    command = [str(run), f"--npz={tmp_path / 'own.npz'}", f"--out={out}"]
    assert main(command) == main(command) == 0  # the same again
    before = (out / "evaluation.json").read_bytes()
    message = f"evaluation.json has data {tmp_path / 'own.npz'}, not the test set of digits; anot"
    assert_refused([str(run), f"--out={out}"], message, capsys)
    other = shutil.copytree(run / "checkpoints" / "000001", tmp_path / "000002")
    assert_refused([str(other), *command[1:]], "evaluation.json has checkpoint ", capsys)
    assert (out / "evaluation.json").read_bytes() == before


def test_the_same_examples_by_another_name_are_written_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    digits = datasets.load("digits", seed=3, max_train_examples=88)  # as the run has them
    images = np.concatenate([digits.train.images[:9], digits.test.images[:20]])
    labels = np.concatenate([digits.train.labels[:9], digits.test.labels[:20]])
    for name in ("one.npz", "two.npz"):
        np.savez(tmp_path / name, images=images, labels=labels)
        assert main([str(run), f"--npz={tmp_path / name}", f"--out={tmp_path / 'out'}"]) == 0
        told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert told["data"] == str(tmp_path / name)
        assert (told["examples"], told["left_out"]) == (20, 9)
    assert (
        "9 more are left out: the run, or an earlier run whose weights or"
        in capsys.readouterr().out
    )


def test_a_file_that_has_changed_is_not_written_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    digits, path = datasets.load("digits", seed=3).test, tmp_path / "own.npz"
    command = [str(run), f"--npz={path}", f"--out={tmp_path / 'out'}"]
    np.savez(path, images=digits.images[:20], labels=digits.labels[:20])
    assert main(command) == 0
    np.savez(path, images=digits.images[:20], labels=digits.labels[1:21])
    message = f"evaluation.json has data other examples of {path}, not {path}; another folder"
    assert_refused(command, message, capsys)


def test_nothing_is_written_into_a_checkpoint(run: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoints = run / "checkpoints"
    for folder in (checkpoints, checkpoints / "000001"):
        assert_refused([str(folder)], f"--out: missing; {folder} cannot hold other", capsys)
    assert [path.name for path in checkpoints.iterdir()] == ["000001"]


def test_classes_of_another_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of fashion_mnist for a model of mnist: as many, of the same size."""
    digits = datasets.load("digits")
    names = ("0", "1", "two", *"3456789")
    monkeypatch.setattr(datasets, "load", lambda *_, **__: digits._replace(class_names=names))
    out = f"--out={tmp_path / 'out'}"
    message = "class 2 is 'two', none of this model's classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    assert_refused([str(run), "--dataset=mnist", out], message, capsys)
    names = tuple("01234567")
    message = "label 8; 0 to 7, its classes, are needed"
    assert_refused([str(run), "--dataset=mnist", out], message, capsys)


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    return {"images": np.zeros((4, 8, 8, 1), np.uint8), "labels": np.arange(4)} | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (arrays(labels=np.array([0, 1, 2, 10])), "own.npz: label 10; 0 to 9, this model's clas"),
        (arrays(images=np.zeros((4, 9, 9, 1), np.uint8)), "shape [4, 9, 9, 1]; [N, 8, 8, 1] is"),
        (arrays(images=np.zeros((4, 8, 8, 3), np.uint8)), "shape [4, 8, 8, 3]; [N, 8, 8, 1] is"),
        (arrays(images=np.zeros((4, 8, 8, 1))), "images: float32; uint8 is needed, since"),
        (arrays(labels=np.arange(3)), "'labels' has 3 entries for 4 images"),
        ({"images": np.zeros((4, 8, 8, 1), np.uint8)}, "key 'labels' is missing"),
    ],
)
def test_an_npz_that_does_not_fit(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, content: Any, message: str
) -> None:
    np.savez(tmp_path / "own.npz", **content)
    arguments = [str(run), f"--npz={tmp_path / 'own.npz'}", f"--out={tmp_path / 'out'}"]
    assert_refused(arguments, message, capsys)
    assert not (tmp_path / "out").exists()


def assert_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fednas_jax: error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "DIR: missing"),
        (["--npz=x.npz"], "DIR: missing"),
        (["nowhere"], "nowhere: no such folder"),
        (["RUN", "--dataset=digits", "--npz=x.npz"], "--npz: given together"),
        (["RUN", "--data-dir=x", "--npz=x.npz"], "--data-dir: given together"),
        (["RUN", "--npz=nowhere.npz"], "nowhere.npz cannot be read"),
        (["RUN", "--datset=digits"], "--datset: no such flag; did you mean '--dataset'?"),
        (["RUN", "--config.rounds=3"], "--config.rounds: no such flag"),
        (["RUN", "--dataset=digit"], "unknown data set 'digit'; did you mean 'digits'?"),
        (["RUN", "--round=one"], "--round: 'one' is not usable"),
        (["RUN", "--round=9"], "no checkpoint of round 9; there are: 1"),
        (["RUN", "--out=FILE"], "--out: "),
    ],
)
def test_bad_arguments(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "file").touch()
    arguments = [
        a.replace("RUN", str(run)).replace("FILE", str(tmp_path / "file")) for a in arguments
    ]
    assert_refused(arguments, message, capsys)


def test_help(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    assert "--npz" in capsys.readouterr().out


def test_the_results_of_an_earlier_best_round_are_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """After a run has gone on, the command that it names is not refused."""
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation*"))
    assert main([str(folder)]) == 0
    results = folder / "evaluation" / "evaluation.json"
    told = json.loads(results.read_text())
    assert (told["round"], told["best"]) == (1, True)
    results.write_text(json.dumps(told | {"round": 0}))
    assert main([str(folder)]) == 0
    assert "has the scores of round 0, the best before the run went on" in capsys.readouterr().out
    assert json.loads(results.read_text())["round"] == 1
    # Scores of a round that was asked for are not replaced, nor are those of other examples.
    for change in ({"round": 0, "best": False}, {"round": 0, "data_sha256": "0"}):
        results.write_text(json.dumps(told | change))
        assert_refused([str(folder)], "another folder is needed", capsys)


def test_a_run_that_has_moved_is_evaluated_where_it_is(run: Path, tmp_path: Path) -> None:
    here = shutil.copytree(run, tmp_path / "here", ignore=shutil.ignore_patterns("evaluation*"))
    assert main([str(here)]) == 0
    here.rename(tmp_path / "there")
    assert main([str(tmp_path / "there")]) == 0
    told = json.loads((tmp_path / "there" / "evaluation" / "evaluation.json").read_text())
    assert told["checkpoint"] == str((tmp_path / "there" / "checkpoints" / "000001").resolve())
