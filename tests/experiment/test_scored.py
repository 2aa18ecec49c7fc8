"""What `evaluate` scores: the run's own test set by any name, and nothing that it has learnt from.

Of each test the model is the first state of a 2NN, with the record of its run.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax.checkpoints.model import Model
from fednas_jax.data import datasets, learnt, partition, published
from fednas_jax.data.archives import Decoded
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import assembly, provenance, scored
from fednas_jax.experiment import workdir as folders
from fednas_jax.runtime.errors import UserError, warn_once
from fednas_jax.runtime.files import write_json
from tests.tiny import fedavg_config, first_checkpoint

NAMES = ("ant", "bee", "cow")
RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (60, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.permutation(np.repeat(np.arange(3), 20))
TURNED = RNG.permutation(60)


def own_config(**fields: Any) -> Any:
    """Trains on `rand.npz`, cut by another seed and in other parts than by default."""
    config = fedavg_config()
    config.dataset.name = "rand.npz"
    config.dataset.test_fraction = 0.3
    config.dataset.max_train_examples = config.dataset.max_test_examples = 0
    config.seed = 1
    config.update_from_flattened_dict(fields)
    return schema.resolve(config)


def save(name: str, images: np.ndarray, labels: np.ndarray, **more: Any) -> str:
    np.savez(name, **{"images": images, "labels": labels, "class_names": np.array(NAMES)} | more)
    return name


def write_inputs() -> None:
    """The run's own file, and others that have its images, or some, or more."""
    save("rand.npz", IMAGES, LABELS)
    Path("link.npz").symlink_to("rand.npz")
    os.link("rand.npz", "hard.npz")
    shutil.copy("rand.npz", "copy.npz")
    members = {"class_names": np.array(NAMES), "labels": LABELS, "images": IMAGES}
    np.savez_compressed("packed.npz", **members)
    save("turned.npz", IMAGES[TURNED], LABELS[TURNED])
    save("part.npz", IMAGES[:40], LABELS[:40])
    more = 255 - IMAGES[:8]
    save("more.npz", np.concatenate([IMAGES, more]), np.concatenate([LABELS, LABELS[:8]]))
    renamed = {"class_names": np.array(NAMES[::-1])}
    save("renamed.npz", IMAGES, 2 - LABELS, **renamed)
    save("tested.npz", 255 - IMAGES, LABELS, test_images=IMAGES, test_labels=LABELS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files and, in `run`, the workdir of a run on `rand.npz`."""
    folder = tmp_path_factory.mktemp("scored")
    with contextlib.chdir(folder):
        write_inputs()
        first_checkpoint(own_config(), Path("run"))
    return folder


@pytest.fixture
def model(place: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """The run's, where its files are."""
    monkeypatch.chdir(place)
    return fednas_jax.restore("run")


@pytest.fixture
def moved(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, whose files a test may change."""
    shutil.copytree(place, tmp_path / "moved", symlinks=True)
    monkeypatch.chdir(tmp_path / "moved")
    return tmp_path / "moved"


def of_the_run(config: Any) -> Dataset:
    return assembly.load_dataset(config)


def as_set(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def as_bytes(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def assert_the_runs_test_set(found: scored.Scored, config: Any, left_out: int = 0) -> None:
    test = of_the_run(config).test
    assert len(found.labels) == len(test.labels) == 18
    assert as_set(found.images, found.labels) == as_set(test.images, test.labels)
    assert found.left_out == left_out


SPELLINGS = [
    *("", "rand.npz", "./rand.npz", "ABSOLUTE", "~/rand.npz"),
    *("link.npz", "hard.npz", "copy.npz", "packed.npz"),
]


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_runs_own_test_set_by_any_name(
    model: Model, place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(place))
    name = name.replace("ABSOLUTE", str(place / "rand.npz"))
    found = scored.choose(model, dataset=name)
    assert_the_runs_test_set(found, own_config())
    assert found.source == f"the test set of {name or 'rand.npz'}"
    # In the order in which the run scores it.
    np.testing.assert_array_equal(found.images, of_the_run(own_config()).test.images)
    if name:
        assert_the_runs_test_set(scored.choose(model, npz=name), own_config(), 42)


def test_the_same_examples_in_another_order(model: Model) -> None:
    for asked in ({"dataset": "turned.npz"}, {"npz": "turned.npz"}):
        found = scored.choose(model, **asked)
        assert_the_runs_test_set(found, own_config(), 42)
        assert found.source == "turned.npz"


@pytest.mark.parametrize("name", ["part.npz", "more.npz"])
def test_fewer_or_more_examples_than_the_runs(model: Model, name: str) -> None:
    data = np.load(name)
    trained = as_set(*of_the_run(own_config()).train[:2])
    right = as_set(data["images"], data["labels"]) - trained
    for asked in ({"dataset": name}, {"npz": name}):
        found = scored.choose(model, **asked)
        assert as_set(found.images, found.labels) == right
        assert found.left_out == len(data["labels"]) - len(right) > 20


def test_a_test_set_of_images_that_are_learnt(model: Model) -> None:
    found = scored.choose(model, dataset="tested.npz")
    assert_the_runs_test_set(found, own_config(), 42)


def test_data_of_which_nothing_is_learnt_are_cut_as_before(model: Model, tmp_path: Path) -> None:
    new = save(str(tmp_path / "new.npz"), 255 - IMAGES, LABELS)
    found = scored.choose(model, dataset=new)
    # As every data set is cut by default: neither by the run's fraction nor by its seed.
    np.testing.assert_array_equal(found.images, datasets.load(new).test.images)
    assert len(found.labels) == 12
    assert found.left_out == 0
    assert len(scored.choose(model, npz=new).labels) == 60


def test_all_is_learnt(model: Model, tmp_path: Path) -> None:
    train = of_the_run(own_config()).train
    path = save(str(tmp_path / "train.npz"), train.images, train.labels)
    with pytest.raises(UserError, match=r"from all 42 images; others are needed$"):
        scored.choose(model, npz=path)
    with pytest.raises(UserError, match="from all 42 images"):
        scored.choose(model, dataset=path)


def test_labels_are_matched_by_name(model: Model, capsys: pytest.CaptureFixture) -> None:
    for asked in ({"dataset": "renamed.npz"}, {"npz": "renamed.npz"}):
        assert_the_runs_test_set(scored.choose(model, **asked), own_config(), 42)
    assert not capsys.readouterr().err


def test_labels_without_names_are_numbers(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = str(tmp_path / "nameless.npz")
    np.savez(path, images=255 - IMAGES, labels=LABELS)
    assert scored.choose(model, npz=path).labels.tolist() == LABELS.tolist()
    told = f"{path} has no class_names; its labels are taken as numbers of this model's classes"
    assert told in capsys.readouterr().err
    assert (scored.choose(model, dataset=path).labels < 3).all()
    assert told in capsys.readouterr().err


@pytest.fixture(scope="module")
def of_colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `place`, whose run has RGB images without colour, and `grey.npz`."""
    folder = tmp_path_factory.mktemp("of_colour")
    with contextlib.chdir(folder):
        save("rand.npz", np.repeat(IMAGES, 3, axis=-1), LABELS)
        save("grey.npz", IMAGES, LABELS)
        first_checkpoint(own_config(), Path("run"))
    return folder


@pytest.mark.parametrize("asked", ["dataset", "npz"])
def test_grey_images_for_a_model_of_rgb_are_read_as_rgb(
    of_colour: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    asked: str,
) -> None:
    """And are known for those that the model has learnt from."""
    monkeypatch.chdir(of_colour)
    warn_once.cache_clear()
    found = scored.choose(fednas_jax.restore("run"), **{asked: "grey.npz"})
    assert_the_runs_test_set(found, own_config(), 42)
    assert "grey.npz: grey images are read as RGB" in capsys.readouterr().err


def test_rgb_images_for_a_model_of_grey_are_refused(model: Model, tmp_path: Path) -> None:
    path = save(str(tmp_path / "rgb.npz"), np.repeat(IMAGES, 3, axis=-1), LABELS)
    for asked in ({"dataset": path}, {"npz": path}):
        with pytest.raises(UserError, match=r"; Pillow's Image\.convert\('L'\) makes a colour"):
            scored.measure(model, scored.choose(model, **asked))


CHANGES = {
    "appended": {"images": np.concatenate([IMAGES, 255 - IMAGES[:8]]),
                 "labels": np.concatenate([LABELS, LABELS[:8]])},
    "turned": {"images": IMAGES[TURNED], "labels": LABELS[TURNED]},
    "one image": {"images": np.concatenate([255 - IMAGES[:1], IMAGES[1:]])},
    "labels": {"labels": (LABELS + 1) % 3},
    "names": {"class_names": np.array(NAMES[::-1])},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_has_changed_is_refused(moved: Path, change: str) -> None:
    save("rand.npz", **{"images": IMAGES, "labels": LABELS} | CHANGES[change])
    with pytest.raises(UserError, match=r"^rand\.npz: the data have changed since the run") as told:
        scored.choose(fednas_jax.restore("run"))
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=r"^\./rand\.npz: the data have changed since the run"):
        scored.choose(fednas_jax.restore("run"), dataset="./rand.npz")


def test_a_test_file(moved: Path) -> None:
    save("test.npz", 255 - IMAGES[:18], LABELS[:18])
    config = own_config(**{"dataset.test_path": "test.npz"})
    first_checkpoint(config, Path("other"))
    model = fednas_jax.restore("other")
    for name in ("", "rand.npz", "./copy.npz"):
        assert_the_runs_test_set(scored.choose(model, dataset=name), config)
    with pytest.raises(UserError, match="from all 60 images"):
        scored.choose(model, npz="rand.npz")
    # Of other data the run's test file is not the test set.
    save("new.npz", 254 - IMAGES // 2, LABELS)
    assert len(scored.choose(model, dataset="new.npz").labels) == 12
    assert scored.choose(model, dataset="new.npz").images.min() > 120
    save("test.npz", 255 - IMAGES[:18], LABELS[1:19])
    for name in ("", "rand.npz"):
        with pytest.raises(UserError, match="the data have changed"):
            scored.choose(model, dataset=name)


def test_a_limited_test_set_is_whole_where_it_is_asked_for(moved: Path) -> None:
    config = own_config(**{"dataset.max_test_examples": 6, "dataset.max_train_examples": 30})
    first_checkpoint(config, Path("other"))
    model = fednas_jax.restore("other")
    assert len(scored.choose(model).labels) == 6
    assert_the_runs_test_set(scored.choose(model, dataset="copy.npz"), own_config())
    # The 12 that no client holds are not learnt from.
    found = scored.choose(model, npz="copy.npz")
    assert (len(found.labels), found.left_out) == (30, 30)


@pytest.mark.parametrize("alone", [False, True])
def test_a_limit_that_keeps_a_rare_class(moved: Path, alone: bool) -> None:
    """Which training images there are depends on the rule, without a `client` column too."""
    images = np.random.RandomState(1).randint(0, 256, (122, 8, 8, 1)).astype(np.uint8)
    save("rare.npz", images, np.r_[np.arange(120) % 2, [2] * 2])
    shutil.copy("rare.npz", "same.npz")
    config = own_config(**{"dataset.name": "rare.npz", "dataset.max_train_examples": 20})
    data = of_the_run(config)
    blind = assembly.load_dataset(config, "class")
    assert not np.array_equal(data.train.images, blind.train.images)  # or this shows nothing
    path = first_checkpoint(config, Path("other"))
    if alone:
        shutil.move(path, "alone")
        shutil.rmtree("other")
    model = fednas_jax.restore("alone" if alone else "other")
    assert "cut_by" not in model.description.data
    for name in ("", "rare.npz", "same.npz"):
        found = scored.choose(model, dataset=name)
        np.testing.assert_array_equal(found.images, data.test.images)
        assert found.left_out == 0


def test_a_checkpoint_alone_knows_what_it_has_learnt_from(moved: Path) -> None:
    shutil.move("run/checkpoints/000001", "alone")
    shutil.rmtree("run")
    model = fednas_jax.restore("alone")
    assert_the_runs_test_set(scored.choose(model, npz="copy.npz"), own_config(), 42)
    assert_the_runs_test_set(scored.choose(model, dataset="copy.npz"), own_config())
    train = of_the_run(own_config()).train
    assert model.has_learnt_from(train.images).all()
    assert not model.has_learnt_from(255 - train.images).any()


def forget(path: Path) -> None:
    """Makes a checkpoint one of an earlier version."""
    (path / learnt.FILE).unlink()
    sums = json.loads((path / "checksums.json").read_text())
    del sums[learnt.FILE]
    (path / "checksums.json").write_text(json.dumps(sums))


def test_a_run_of_an_earlier_version(moved: Path, capsys: pytest.CaptureFixture) -> None:
    forget(Path("run/checkpoints/000001"))
    config = own_config()
    dataset = of_the_run(config)
    dealt = assembly.make_partition(config, dataset)
    partition.save("run/partition.npz", dealt)
    recorded = folders.fingerprint(dataset, dealt.clients)
    write_json("run/run.json", {"config": schema.to_json(config), "data_sha256": recorded})
    model = fednas_jax.restore("run")
    assert model.learnt is None
    with pytest.raises(UserError, match="does not say which images the model has learnt from"):
        model.has_learnt_from(IMAGES)
    for name in ("", "./rand.npz", "copy.npz"):
        assert_the_runs_test_set(scored.choose(model, dataset=name), config)
    assert_the_runs_test_set(scored.choose(model, npz="copy.npz"), config, 42)
    assert not capsys.readouterr().err
    save("rand.npz", **CHANGES["appended"])
    for name in ("", "./rand.npz"):
        with pytest.raises(UserError, match="the data have changed"):
            scored.choose(model, dataset=name)


def test_a_checkpoint_of_an_earlier_version_alone(
    moved: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.move("run/checkpoints/000001", "alone")
    forget(Path("alone"))
    model = fednas_jax.restore("alone")
    told = "alone has no record of the images that its model has learnt from"
    members = {"class_names": np.array(NAMES), "client": np.arange(60) % 4}
    save("clients.npz", IMAGES, LABELS, **members)
    for name in ("", "./rand.npz", "copy.npz", "clients.npz"):  # cut as the run cut it
        found = scored.choose(model, dataset=name)
        np.testing.assert_array_equal(found.images, of_the_run(own_config()).test.images)
        assert told in capsys.readouterr().err
    found = scored.choose(model, npz="copy.npz")
    assert (len(found.labels), found.left_out) == (60, None)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("limit", [0, 6])
def test_what_a_first_run_had_learnt_from_is_not_scored(
    moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, limit: int
) -> None:
    whole = of_the_run(own_config())
    config = own_config(**{"dataset.max_test_examples": limit})
    tested = of_the_run(config).test
    rest = np.array([image.tobytes() not in as_bytes(tested.images) for image in whole.test.images])
    seen = np.concatenate([tested.images[:2], whole.test.images[rest][:3]])
    labels = np.zeros(len(seen), np.int32)
    train = whole.train._replace(images=seen, labels=labels)
    settings = learnt.settings_of(config, "client") | {"name": "first.npz"}
    first = learnt.of(whole._replace(train=train), [np.arange(len(seen))], settings)
    first = first._replace(test_images=first.test_images[:0], test_labels=first.test_labels[:0])
    monkeypatch.setattr(provenance, "_sources", lambda config: iter([("genotype", first)]))
    first_checkpoint(config, Path("other"))
    model = fednas_jax.restore("other")
    capsys.readouterr()
    for asked in ({}, {"dataset": "copy.npz"}, {"npz": "tested.npz"}, {"npz": "copy.npz"}):
        found = scored.choose(model, **asked)
        assert not as_bytes(found.images) & as_bytes(seen)
        told = capsys.readouterr().err
        if "npz" not in asked:
            all_of_it = tested if not asked else whole.test
            number = len(as_bytes(all_of_it.images) & as_bytes(seen))
            assert (found.left_out, len(found.labels) + number) == (number, len(all_of_it.labels))
            assert number >= 2
            assert f"{number} of {len(all_of_it.labels)} images are left out: earlier runs" in told


def test_what_a_first_run_had_learnt_from_is_not_known(
    moved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(provenance, "_sources", lambda config: iter([("warm_start", None)]))
    first_checkpoint(own_config(), Path("other"))
    for asked in ({}, {"dataset": "copy.npz"}, {"npz": "copy.npz"}):
        scored.choose(fednas_jax.restore("other"), **asked)
        told = capsys.readouterr().err
        assert "uses weights or a genotype of a run without a record" in told


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, Decoded]:
    """Stands in for published data by folder; one of 12 test images is a training image as well."""
    names = np.array([str(i) for i in range(10)])
    test = np.concatenate([IMAGES[:1], 255 - IMAGES[:11]])
    there = Decoded(IMAGES, LABELS, test, LABELS[:12], names)
    found = {"": there, "same": there, "other": there._replace(test_labels=LABELS[1:13])}
    monkeypatch.setattr(
        published, "read", lambda name, data_dir=None, **_: found[str(data_dir or "")]
    )
    return found


def test_published_data_by_content(mnist: dict[str, Decoded], tmp_path: Path) -> None:
    first_checkpoint(own_config(**{"dataset.name": "mnist"}), tmp_path / "run")
    model = fednas_jax.restore(tmp_path / "run")
    for asked in (
        {},
        {"data_dir": "same"},
        {"dataset": "mnist"},
        {"dataset": "mnist", "data_dir": "same"},
    ):
        # Whole, with the image that is in both parts.
        found = scored.choose(model, **asked)
        np.testing.assert_array_equal(found.images, mnist[""].test_images)
        assert found.left_out == 0
    with pytest.raises(UserError, match=r"^mnist: the data have changed"):
        scored.choose(model, data_dir="other")
    found = scored.choose(model, dataset="mnist", data_dir="other")
    assert (len(found.labels), found.left_out) == (11, 1)
