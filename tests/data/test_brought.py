"""Data sets and partitions of a user's own: docs/extending.md in a folder elsewhere; refusals."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax import evaluate, experiment, main, sweep
from fednas_jax.data import brought, datasets, partition_file
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.experiment import assembly
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError
from tests.tiny import ROOT, fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
FILES = {"uniform.py": 0, "my_config.py": 1} | {
    name: next(i for i, block in enumerate(BLOCKS) if text in block)
    for name, text in (("stripes.py", "def stripes"), ("parity.py", "def parity"))
}
QUIET = ["--config.report.page=false", "--config.report.plots=false"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of the repository, with the files of docs/extending.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_code, "_given", {})
    for name, block in FILES.items():
        Path(name).write_text(BLOCKS[block])
    return tmp_path


def mine(**fields: Any) -> Any:
    config = fedavg_config()
    config.rounds = 1
    config.report.plots = config.report.tensorboard = False
    config.update_from_flattened_dict(fields)
    return config


def refusal(**fields: Any) -> str:
    with pytest.raises(UserError) as raised:
        experiment.run(mine(**fields), "refused")
    assert "\n" not in str(raised.value)
    assert not Path("refused").exists()
    return str(raised.value)


def recorded(folder: str) -> Any:
    return json.loads(Path(folder, "run.json").read_text())


# Data sets ----------------------------------------------------------------------------------------


def test_the_example_is_trained_recorded_and_evaluated(elsewhere: Path, capsys: Any) -> None:
    named = ["--config.dataset.name=stripes.py:STRIPES", "--config.stripes.noise=0.5"]
    assert main.main(["--config=my_config.py", "--workdir=run", *named, *QUIET]) == 0
    run = recorded("run")
    assert run["config"]["dataset"]["name"] == "stripes.py:STRIPES"
    assert run["config"]["stripes"] == {"noise": 0.5}
    assert Path(run["user_code"]["dataset.name"]["path"]).samefile("stripes.py")
    # It is a set that two rounds learn.
    assert read_rows(Path("run/metrics.jsonl"))[-1]["test_accuracy"] > 0.9
    capsys.readouterr()
    assert evaluate.main(["run"]) == 0
    assert "of 100 examples of the test set of stripes" in capsys.readouterr().out
    Path("stripes.py").write_text(BLOCKS[FILES["stripes.py"]] + "# changed\n")
    assert main.main(["--config=my_config.py", "--workdir=run", *named, *QUIET]) == 2
    assert "config.dataset.name: " in (said := capsys.readouterr().err)
    assert "stripes.py is not as it was when the run in run began" in said


def test_it_is_what_the_function_makes_within_the_limits(elsewhere: Path) -> None:
    config = schema.resolve(mine(**{"dataset.name": "stripes.py:STRIPES", "seed": 3}))
    data = assembly.load_dataset(config)
    assert data.name == "stripes"
    assert (len(data.train.labels), len(data.test.labels)) == (88, 30)
    # Lying stripes are alike along a row, upright ones along a column, but for the noise.
    along = np.abs(np.diff(data.train.images[..., 0], axis=2)).mean(axis=(1, 2))
    down = np.abs(np.diff(data.train.images[..., 0], axis=1)).mean(axis=(1, 2))
    np.testing.assert_array_equal(data.train.labels, along > down)
    assert data.train.labels.dtype == np.int32
    whole = mine(**{"dataset.name": "stripes.py:STRIPES", "seed": 3})
    whole.dataset.max_train_examples = 0
    more = assembly.load_dataset(schema.resolve(whole))
    assert len(more.train.labels) == 400
    assert datasets.examples_sha256(more) == datasets.examples_sha256(data)


def given(**changes: Any) -> Dataset:
    rng = np.random.RandomState(0)
    split = Split(rng.randint(0, 256, (60, 8, 8, 1)).astype(np.uint8), np.arange(60) % 3, None)
    data = Dataset("my data", split, split, 3, ("a", "b", "c"), (0.5,), (0.5,))
    return data._replace(**changes)


def test_an_object_is_compared_by_its_examples(elsewhere: Path) -> None:
    one = given()
    other = given(train=one.train._replace(images=255 - one.train.images))
    experiment.run(mine(), "run", dataset=one)
    run = recorded("run")
    assert run["config"]["dataset"]["name"] == "given:dataset_my_data"
    assert run["user_code"] == {}
    assert experiment.run(mine(), "run", dataset=given())["rounds"] == 1
    more = mine(checkpoint_every=1)
    Path("run/summary.json").unlink()
    with pytest.raises(UserError, match="the data or its partition has changed since the run in r"):
        experiment.run(more, "run", dataset=other)
    with pytest.raises(UserError, match=r"'digits' here, where the object itself .*dataset=\.\.\."):
        experiment.run(more, "run")


def test_labels_and_clients_of_an_object_may_be_text(elsewhere: Path) -> None:
    one = given()
    letters, sites = np.array(["a", "b", "c"])[np.arange(60) % 3], ["North", "East"] * 30
    train = one.train._replace(labels=letters, client=sites)
    test = one.test._replace(labels=np.arange(60)[:, None] % 3, client=["West"] * 60)
    made = brought._checked(one._replace(train=train, test=test), "mine")
    np.testing.assert_array_equal(made.train.labels, one.train.labels)
    np.testing.assert_array_equal(made.test.labels, one.test.labels)
    assert made.client_names == ("East", "North", "West")
    assert made.train.client is not None
    assert made.test.client is not None
    assert made.train.client.tolist() == [1, 0] * 30
    assert made.test.client.tolist() == [2] * 60
    numbered = one.train._replace(client=np.arange(60) % 2)
    names = ("East", "North")
    made = brought._checked(one._replace(train=numbered, client_names=names), "mine")
    assert made.client_names == names


def test_grey_test_images_of_rgb_training_images_become_rgb() -> None:
    train, test = (
        WHITE.repeat(3, axis=3),
        WHITE + np.arange(60, dtype=np.uint8)[:, None, None, None],
    )
    numbers = np.arange(60) % 3
    data = Dataset("mine", Split(train, numbers, None), Split(test, numbers, None), 3,
                   ("a", "b", "c"), (0.5,) * 3, (0.5,) * 3)  # fmt: skip
    np.testing.assert_array_equal(
        brought._checked(data, "mine").test.images, test.repeat(3, axis=3)
    )


WHITE = np.zeros((60, 8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"train": Split(WHITE[:, :4], np.arange(60) % 3, None)},
            "'images' is 4 x 8 pixels; at ",
        ),
        ({"train": Split(WHITE.astype(int), np.arange(60), None)}, "'images' is int64; uint8 or f"),
        ({"train": Split(WHITE, np.arange(9), None)}, "'labels' has 9 entries for 60 images; one"),
        ({"train": Split(WHITE, np.full(60, 0.5), None)}, "'labels' has 0.5 in example 0; whole"),
        ({"test": Split(WHITE - 1, -np.ones(60, int), None)}, "'test_labels' has -1; 0 to 2 are n"),
        ({"test": Split(WHITE, np.arange(60), None)}, "'test_labels' has 59; 0 to 2 are needed, s"),
        (
            {"num_classes": 2, "class_names": ("a", "b")},
            "'labels' has 2; 0 to 1 are needed, since num_classes is 2",
        ),
        (
            {"train": Split(WHITE, np.array(["a", "b", "d"])[np.arange(60) % 3], None)},
            "'labels': label 'd' is not among the class_names (a, b, c); the same names are need",
        ),
        (
            {
                "train": Split(WHITE, np.arange(60) % 3, np.arange(60) % 3),
                "client_names": ("North", "South"),
            },
            "'client' has 0..2; 0 to 1 are needed, since client_names has 2 names",
        ),
        (
            {"train": Split(np.moveaxis(WHITE.repeat(3, 3), -1, 1), np.arange(60) % 3, None)},
            "'images' is 3 x 8 pixels; at least 8 x 8 are needed; this looks like channels first",
        ),
        (
            {"test": Split(WHITE[:, :0], np.arange(60) % 3, None)},
            "'test_images' is empty",
        ),
        ({"class_names": ("a", "b")}, "class_names is ('a', 'b'); a tuple of 3, one for each cl"),
        ({"mean": 0.5}, "mean is 0.5; a tuple of 1, one for each channel of the images, is needed"),
        ({"std": (1.0, 1.0)}, "std is (1.0, 1.0); a tuple of 1, one for each channel of the im"),
    ],
)
def test_what_does_not_fit(elsewhere: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as raised:
        experiment.run(mine(), "refused", dataset=given(**changes))
    start = "config.dataset.name: given:dataset_my_data: "
    assert str(raised.value).startswith(start + says)
    assert not Path("refused").exists()


def test_what_is_no_data_set(elsewhere: Path) -> None:
    Path("bad.py").write_text("X = 3\ndef f(config):\n    return X\n")
    assert (
        "bad.py:X is of type int; a fednas_jax.data.datasets.Dataset, or a function(config) th"
        in (refusal(**{"dataset.name": "bad.py:X"}))
    )
    assert "bad.py:f returns int; a fednas_jax.data.datasets.Dataset" in (
        refusal(**{"dataset.name": "bad.py:f"})
    )
    assert refusal(
        **{"dataset.name": "stripes.py:STRIPES", "dataset.test_path": "x.npz"}
    ).startswith("config.dataset.test_path: 'x.npz' is only for data that are named by their path;")
    with pytest.raises(UserError, match="a data set of your own, and its run alone can"):
        datasets.load("stripes.py:STRIPES")


def test_the_path_of_an_npz_may_have_a_colon(elsewhere: Path) -> None:
    data = given()
    with Path("a:b.npz").open("wb") as file:
        np.savez(file, images=data.train.images, labels=data.train.labels)
    config = schema.resolve(mine(**{"dataset.name": "a:b.npz", "dataset.max_train_examples": 0}))
    assert assembly.load_dataset(config).name == "a:b.npz"


# Partitions ---------------------------------------------------------------------------------------


def test_the_partition_of_the_example_is_made_and_recorded(elsewhere: Path, capsys: Any) -> None:
    named = "--config.partition.name=parity.py:parity"
    assert main.main(["--config=my_config.py", "--workdir=run", named, *QUIET]) == 0
    assert Path(recorded("run")["user_code"]["partition.name"]["path"]).samefile("parity.py")
    counts = np.array(json.loads(Path("run/partition.json").read_text())["class_counts"])
    assert counts[:2, 1::2].sum() == counts[2:, 0::2].sum() == 0
    assert counts.sum() == 1438
    assert np.ptp(counts[:2].sum(axis=1)) <= 1
    # Another run may have it without the function.
    kept = mine(**{"partition.name": "file", "partition.path": "run/partition.npz"})
    kept.dataset.max_train_examples = 0
    data = assembly.load_dataset(schema.resolve(kept))
    clients = assembly.make_partition(schema.resolve(kept), data).clients
    made, _ = partition_file.read(Path("run/partition.npz"))
    for one, other in zip(clients, made.clients, strict=True):
        np.testing.assert_array_equal(one, other)


def test_in_python_a_lambda_whose_source_is_compared(elsewhere: Path) -> None:
    thirds = lambda config, dataset: np.arange(60).reshape(3, 20)  # noqa: E731
    experiment.run(mine(clients_per_round=2), "run", partition=thirds)
    run = recorded("run")
    assert run["config"]["partition"]["name"] == "given:partition_lambda"
    assert run["user_code"]["partition.name"]["path"] == __file__
    assert len(json.loads(Path("run/partition.json").read_text())["class_counts"]) == 3
    elsewhere_made = BLOCKS[FILES["parity.py"]]
    Path("other.py").write_text(elsewhere_made)
    other = user_code.load("other.py:parity", "here").value
    named = user_code.give(other, "partition_lambda")
    with pytest.raises(UserError, match=r"^config\.partition\.name: .*other\.py is not as it was"):
        experiment.run(mine(**{"clients_per_round": 2, "partition.name": named}), "run")


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ([[0, 1], [1, 2]], "example 1 is dealt twice; once at most"),
        ([[0, 1], [88]], "client 1 has index 88; indices count the run's 88 training examples, wh"),
        ([[-1]], "client 0 has index -1; indices count the run's 88 training examples"),
        ([[], np.zeros(0)], "no client has an example; a function(config, dataset) that returns"),
        ([], "no client has an example; a function(config, dataset) that returns"),
        ([[0.0, 1.0]], "client 0 has float64 of rank 1, not integers of rank 1"),
        ([[True, False]], "client 0 has bool of rank 1, not integers of rank 1"),
        ([[0], [[1], [2, 3]]], "client 1 has float64 of rank 2, not integers of rank 1"),
        ([0, 1, 2], "client 0 has int64 of rank 0, not integers of rank 1"),
        ({0: [1]}, "returns dict; a function(config, dataset) that returns a list of index arrays"),
    ],
)
def test_what_is_no_partition(elsewhere: Path, made: Any, says: str) -> None:
    with pytest.raises(UserError) as raised:
        experiment.run(mine(), "refused", partition=lambda config, dataset: made)
    assert says in str(raised.value)
    assert str(raised.value).startswith("config.partition.name: given:partition_lambda")
    assert not Path("refused").exists()


def test_a_client_may_have_no_example_and_a_partition_be_returned(elsewhere: Path) -> None:
    Path("mine.py").write_text(
        "import numpy as np\nfrom fednas_jax.data.partition import Partition\n"
        "def split(config, dataset):\n"
        "    return Partition((np.array([3, 1], np.uint64), np.array([], np.int64)))\n"
    )
    config = schema.resolve(mine(**{"partition.name": "mine.py:split"}))
    clients = brought.partition(config, assembly.load_dataset(config)).clients
    assert [indices.tolist() for indices in clients] == [[3, 1], []]
    assert {indices.dtype for indices in clients} == {np.dtype(np.int32)}


def test_a_sweep_over_a_field_of_the_data(elsewhere: Path) -> None:
    """Each run has other examples, though of one name: that is what was asked for."""
    Path("c.py").write_text("from tests.data.test_brought import swept as get_config\n")
    assert sweep.main(["--config=c.py", "--workdir=out", "--config.stripes.noise=0.1,0.9"]) == 0
    runs = [json.loads(path.read_text()) for path in Path("out").glob("*/run.json")]
    digests = [run["examples_sha256"] for run in runs]
    assert len(set(digests)) == 2


def swept(variant: str) -> Any:
    return mine(**{"dataset.name": "stripes.py:STRIPES"})
