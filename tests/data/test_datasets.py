"""Data sets by name: digits, cuts and moments, and the real ones where they are on disk."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednas_jax.data import cuts, datasets, published
from fednas_jax.data.fingerprints import image_digests
from fednas_jax.runtime.errors import UserError, warn_once


def on_disk(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    present = bool(folder) and published.prepared_folder(name, published.data_folder()) is not None
    return pytest.mark.skipif(not present, reason=f"TFDS_DATA_DIR has no {name}")


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


# --- digits ----------------------------------------------------------------------------------


def test_digits_are_all_there_in_bytes():
    from sklearn.datasets import load_digits

    data = datasets.load("digits")
    assert data.train.images.shape == (1438, 8, 8, 1)
    assert data.test.images.shape == (359, 8, 8, 1)
    assert data.train.images.dtype == np.uint8
    assert data.num_classes == 10
    together = np.concatenate([data.train.images, data.test.images])[..., 0].reshape(1797, 64)
    original = np.rint(load_digits().data * 255 / 16)
    np.testing.assert_array_equal(
        together[np.lexsort(together.T)], original[np.lexsort(original.T)]
    )
    shares = np.bincount(data.test.labels) / np.bincount(data.train.labels)
    np.testing.assert_allclose(shares, 0.25, atol=0.02)


def test_same_seed_same_digits_and_another_seed_others():
    first, again, other = (datasets.load("digits", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.labels, other.test.labels)


def test_fewer_examples_keep_the_proportions_and_the_test_set():
    full = datasets.load("digits")
    data = datasets.load("digits", max_train_examples=144, max_test_examples=50)
    assert len(data.train.labels) == 144
    assert len(data.test.labels) == 50
    exact = np.bincount(full.train.labels) * 144 / 1438
    assert (np.abs(np.bincount(data.train.labels) - exact) < 1).all()
    assert (data.mean, data.std) == (full.mean, full.std)
    one = datasets.load("digits", max_train_examples=144)
    np.testing.assert_array_equal(one.train.images, data.train.images)
    np.testing.assert_array_equal(one.test.images, full.test.images)
    assert len(datasets.load("digits", max_train_examples=10**6).train.labels) == 1438


# --- cuts and moments ------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.floats(0, 1))
def test_apportioned_shares_add_up_and_are_near_the_exact_ones(sizes, part):
    sizes = np.array([*sizes, 1])
    total = int(part * sizes.sum())
    shares = cuts.apportion(sizes, total)
    assert shares.sum() == total
    assert (np.abs(shares - sizes * total / sizes.sum()) < 1).all()
    assert (shares <= sizes).all()


def test_moments_are_those_of_all_pixels():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (5000, 3, 4, 2)).astype(np.uint8)  # more than one chunk
    mean, std = datasets._moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-12)
    floats = (images * 1e-4 + 7).astype(np.float32)
    mean, std = datasets._moments(floats)
    np.testing.assert_allclose(mean, floats.mean(axis=(0, 1, 2), dtype=float), rtol=1e-12)
    np.testing.assert_allclose(std, floats.std(axis=(0, 1, 2), dtype=float), rtol=1e-12)


@pytest.mark.parametrize(("dtype", "floor"), [(np.uint8, 1 / 255), (np.float32, 1.0)])
def test_constant_channels_have_a_floor(dtype, floor):
    images = np.full((4, 8, 8, 1), 7, dtype)
    assert datasets._moments(images)[1] == (floor,)


# --- an own .npz -----------------------------------------------------------------------------


def own(number=40, classes=4, **changes):
    rng = np.random.RandomState(0)
    arrays = {
        "images": rng.randint(0, 256, (number, 8, 9, 3)).astype(np.uint8),
        "labels": np.arange(number) % classes,
    }
    return {**arrays, **changes}


def test_own_npz_with_a_cut_test_set(tmp_path):
    arrays = own(client=np.arange(40) // 10, class_names=np.array(["a", "b", "c", "d"]))
    arrays["images"][:, 0, 0, 0] = np.arange(40)  # tells the examples apart
    data = datasets.load(save(tmp_path / "own.npz", **arrays), test_fraction=0.3)
    assert np.bincount(data.train.labels).tolist() == [7, 7, 7, 7]
    assert np.bincount(data.test.labels).tolist() == [3, 3, 3, 3]
    assert data.class_names == ("a", "b", "c", "d")
    for split in (data.train, data.test):
        which = split.images[:, 0, 0, 0]
        np.testing.assert_array_equal(split.labels, which % 4)
        np.testing.assert_array_equal(split.client, which // 10)
    assert not set(data.train.images[:, 0, 0, 0]) & set(data.test.images[:, 0, 0, 0])
    np.testing.assert_allclose(data.mean, (data.train.images / 255).mean(axis=(0, 1, 2)))


def test_clients_and_classes_by_name_stay_with_their_examples(tmp_path):
    arrays = own(class_names=None, number=60, classes=3)
    del arrays["class_names"]
    arrays["images"][:, 0, 0, 0] = np.arange(60)  # tells the examples apart
    sites, pets = np.array(["North", "East", "West"]), np.array(["cow", "ant", "bee"])
    arrays |= {"client": sites[np.arange(60) // 20], "labels": pets[np.arange(60) % 3]}
    path = save(tmp_path / "own.npz", **arrays)
    data = datasets.load(path, max_train_examples=30)
    assert (data.class_names, data.named) == (("ant", "bee", "cow"), True)
    assert data.client_names == ("East", "North", "West")
    for split in (data.train, data.test):
        which = split.images[:, 0, 0, 0]
        names = np.array(data.class_names)[split.labels], np.array(data.client_names)[split.client]
        np.testing.assert_array_equal(names[0], pets[which % 3])
        np.testing.assert_array_equal(names[1], sites[which // 20])
    few = datasets.load(path, max_train_examples=2)
    assert "leaves 2 of 3 clients" in few.lost[1] or "leaves 1 of 3 clients" in few.lost[1]
    lost = [name for name in data.client_names if f"{name!r}" in few.lost[1]]
    left = np.array(data.client_names)[few.train.client]
    assert sorted([*lost, *np.unique(left)]) == sorted(data.client_names)


def test_own_npz_with_a_test_file_or_test_arrays(tmp_path):
    train, test = own(), own(number=6, classes=2)
    test["images"] = 255 - test["images"]
    one = save(
        tmp_path / "one.npz", **train, test_images=test["images"], test_labels=test["labels"]
    )
    two = save(tmp_path / "two.npz", **train)
    other = save(tmp_path / "test.npz", **test)
    for data in (datasets.load(one), datasets.load(two, test_path=other)):
        np.testing.assert_array_equal(data.train.images, train["images"])
        np.testing.assert_array_equal(data.test.images, test["images"])
        np.testing.assert_array_equal(data.test.labels, test["labels"])
        assert data.num_classes == 4
        assert data.class_names == ("0", "1", "2", "3")


def test_what_decides_which_examples_are_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, test = own(), own(number=6, classes=2)
    save("cut.npz", **train)
    save("both.npz", **train, test_images=test["images"], test_labels=test["labels"])
    cut, both, other = (str(tmp_path / name) for name in ("cut.npz", "both.npz", "test.npz"))
    of = datasets.choice_of_test_set
    assert of("cifar10", "", 0.3, 4) == {"dataset.name": "cifar10"}
    drawn = {"dataset.test_fraction": 0.3, "seed": 4}
    assert of("digits", "", 0.3, 4) == {"dataset.name": "digits"} | drawn
    assert of("cut.npz", "", 0.3, 4) == of(cut, "", 0.3, 4) == {"dataset.name": cut} | drawn
    assert of("cut.npz", "test.npz", 0.3, 4) == {"dataset.name": cut, "dataset.test_path": other}
    assert of("both.npz", "", 0.3, 4) == {"dataset.name": both}


def test_own_grey_float_images(tmp_path):
    images = np.random.RandomState(0).rand(40, 8, 8)
    data = datasets.load(save(tmp_path / "own.npz", **own(images=images)))
    assert data.train.images.shape == (32, 8, 8, 1)
    assert data.train.images.dtype == np.float32


def test_a_class_keeps_its_last_example_for_training(tmp_path):
    labels = np.array([0] * 38 + [1] * 2)
    data = datasets.load(save(tmp_path / "own.npz", **own(labels=labels)), test_fraction=0.9)
    assert np.bincount(data.train.labels).tolist() == [4, 1]


IMAGES = own()["images"]
LABELS = own()["labels"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"images": IMAGES[:39]}, "'labels' has 40 entries for 39 images"),
        ({"images": IMAGES.astype(int)}, "'images' is int64; uint8 or float"),
        ({"images": IMAGES[0]}, "'images' is 9 x 3 pixels"),
        ({"images": IMAGES[0, 0]}, "'images' has shape (9, 3)"),
        ({"images": IMAGES[:, :7]}, "'images' is 7 x 9 pixels; at least 8 x 8"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "'images' is empty"),
        ({"images": np.where(IMAGES == 200, np.nan, 1.0)}, "'images' has NaN or infinite"),
        ({"images": IMAGES * 1e300}, "'images' has NaN or infinite"),
        ({"images": np.full(40, None)}, "'images' holds pickled objects"),
        (
            {"labels": np.array(["a", "b"], object)[LABELS % 2]},
            "'labels' holds pickled objects; a plain array is needed, such as, for text, "
            "np.array(values, dtype=str)",
        ),
        ({"labels": LABELS - 1}, "'labels' has -1"),
        ({"labels": LABELS * 0.5}, "'labels' has 0.5 in example 1; whole numbers or text are need"),
        ({"labels": LABELS[:, None, None]}, "'labels' is int64 of shape (40, 1, 1)"),
        (
            {"images": np.moveaxis(IMAGES, -1, 1)},
            "'images' is 3 x 8 pixels; at least 8 x 8 are needed; this looks like channels first, "
            "[N, C, H, W]: np.moveaxis(images, 1, -1) makes it [N, H, W, C]",
        ),
        ({"test_images": np.moveaxis(IMAGES, -1, 1), "test_labels": LABELS}, "channels first"),
        ({"labels": LABELS + 2**40}, "'labels' has 1099511627776"),
        ({"client": LABELS[:9]}, "'client' has 9 entries"),
        ({"client": LABELS * 0.5}, "'client' has 0.5 in example 1"),
        ({"client": np.eye(40)}, "'client' is float64 of shape (40, 40)"),
        ({"class_names": np.array(["a"])}, "'class_names' has length 1; 4 names (for 0, 1, 2, "),
        (
            {"class_names": np.array(["a", "", "b", "c"])},
            "'class_names' is empty for class 1; a name",
        ),
        (
            {"class_names": np.array(["a", "b", "b ", "c"])},
            "'class_names' has 'b' for class 1 and cla",
        ),
        ({"class_names": np.array([["a"]])}, "'class_names' is <U1 of shape (1, 1); text of shape"),
        ({"class_names": np.arange(4)}, "'class_names' is int64"),
        (
            {"class_names": np.array(["a", "b"]), "labels": np.array(["a", "c"])[LABELS % 2]},
            "'labels': label 'c' is not among 'class_names' (a, b); the same names are needed",
        ),
        ({"labels": LABELS * 0}, "'labels' has one class only (0); at least 2 are needed"),
        ({"test_images": IMAGES}, "key 'test_labels' is missing"),
        ({"test_labels": LABELS}, "key 'test_images' is missing"),
        ({"test_images": IMAGES, "test_labels": LABELS + 1}, "'test_labels': label 4; 0 to 3, the"),
        ({"test_images": IMAGES[:, :, :8], "test_labels": LABELS}, "'test_images' is (8, 8, 3)"),
        ({"test_images": IMAGES * 1.0, "test_labels": LABELS}, "'test_images' is float32"),
    ],
)
def test_bad_own_data_is_refused_in_one_line(tmp_path, changes, part):
    path = save(tmp_path / "own.npz", **own(**changes))
    with pytest.raises(UserError) as error:
        datasets.load(path)
    message = str(error.value)
    assert part in message
    assert message.startswith(path)
    assert "\n" not in message


@pytest.mark.parametrize("key", ["images", "labels"])
def test_missing_keys_are_named(tmp_path, key):
    arrays = own()
    del arrays[key]
    with pytest.raises(UserError, match=f"key '{key}' is missing"):
        datasets.load(save(tmp_path / "own.npz", **arrays))
    whole = save(tmp_path / "whole.npz", **own())
    with pytest.raises(UserError, match=rf"own\.npz: key '{key}' is missing"):
        datasets.load(whole, test_path=tmp_path / "own.npz")


def test_a_truncated_missing_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    save(path, **own())
    path.write_bytes(path.read_bytes()[:-30])
    for bad, part in (
        (path, "truncated"),
        (
            tmp_path / "none.npz",
            r"^config\.dataset\.name: .*none\.npz cannot be read \(No such file",
        ),
    ):
        with pytest.raises(UserError, match=part):
            datasets.load(str(bad))
    path.write_text("images,labels")
    with pytest.raises(UserError, match=r"not an \.npz"):
        datasets.load(str(path))


@pytest.mark.parametrize("column", [False, True])
def test_an_image_that_is_there_twice_is_not_tested_where_it_is_trained(tmp_path, column):
    arrays = own(number=80)
    arrays["images"][40:] = arrays["images"][:40]  # with other labels, too
    arrays["labels"][40:] = (arrays["labels"][:40] + 1) % 4
    if column:
        arrays["client"] = np.arange(80) % 5
    path = save(tmp_path / "own.npz", **arrays)
    digests = []
    for seed in range(3):
        data = datasets.load(path, test_fraction=0.4, seed=seed)
        trained, tested = (image_digests(part.images) for part in (data.train, data.test))
        assert len(tested)
        assert not np.isin(tested, trained).any()
        assert len(trained) + len(tested) == 80
        digests.append(datasets.examples_sha256(data))
    assert len(set(digests)) == 1, "the same examples for every seed"
    earlier = datasets.load(path, test_fraction=0.4, cut_by="class")
    assert np.isin(*(image_digests(x.images) for x in (earlier.test, earlier.train))).any()


def test_of_one_image_alone_no_test_set_can_be_cut_off(tmp_path):
    path = save(tmp_path / "own.npz", **own(images=np.zeros((40, 8, 9, 3), np.uint8)))
    with pytest.raises(UserError, match="as each of these images is duplicated, and a copy is tr"):
        datasets.load(path)


@pytest.mark.parametrize("within", [True, False])
def test_test_images_that_are_training_images_are_left_out(tmp_path, within):
    arrays, other = own(), own(number=12)
    other["images"] = np.concatenate([arrays["images"][:8], 255 - arrays["images"][:4]])
    path, test_path = str(tmp_path / "own.npz"), str(tmp_path / "test.npz")
    if within:
        arrays |= {"test_images": other["images"], "test_labels": other["labels"]}
        test_path = ""
    save(tmp_path / "own.npz", **arrays)
    save(tmp_path / "test.npz", **other)
    data = datasets.load(path, test_path=test_path)
    np.testing.assert_array_equal(data.test.images, other["images"][8:])
    source = path if within else test_path
    line = f"{source}: 8 of 12 test images are among the training images, and are left out of the"
    assert data.lost[0].startswith(line)


def test_one_test_image_is_one(tmp_path):
    arrays, few, one = own(), own(number=2), own(number=1)
    few["images"] = np.concatenate([arrays["images"][:1], 255 - arrays["images"][:1]])
    path, test = save(tmp_path / "own.npz", **arrays), str(tmp_path / "test.npz")
    save(test, **few)
    assert datasets.load(path, test_path=test).lost[0] == (
        f"{test}: 1 of 2 test images is among the training images, and is left out of the test set"
    )
    save(test, **one)
    with pytest.raises(UserError, match="the only test image is among the training images; other"):
        datasets.load(path, test_path=test)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("within", [True, False])
def test_grey_test_images_of_rgb_training_images_become_rgb(tmp_path, kind, within, capsys):
    images = own()["images"].astype(kind)
    grey = (255 - images[:12, :, :, :1]).astype(kind)
    other = {"images": grey, "labels": np.arange(12) % 4}
    path, test = str(tmp_path / "own.npz"), "" if within else str(tmp_path / "test.npz")
    inside = {f"test_{name}": array for name, array in other.items()} if within else {}
    save(path, **own(images=images), **inside)
    save(tmp_path / "test.npz", **other)
    warn_once.cache_clear()
    data = datasets.load(path, test_path=test)
    np.testing.assert_array_equal(data.test.images, np.concatenate([grey] * 3, axis=3))
    where = f"{path}: 'test_images'" if within else f"config.dataset.test_path: {test}"
    line = f"{where}: grey images are read as RGB, as the training images are\n"
    assert capsys.readouterr().err == f"fednas_jax: warning: {line}"


def test_rgb_test_images_of_grey_training_images_are_refused(tmp_path):
    images = own()["images"]
    path = save(tmp_path / "own.npz", **own(images=images[..., :1]))
    test = save(tmp_path / "test.npz", **own())
    with pytest.raises(UserError) as error:
        datasets.load(path, test_path=test)
    assert str(error.value) == (
        f"{test}: each image is (8, 9, 3); the training images are (8, 9, 1); equal shapes are "
        "needed; Pillow's Image.convert('L') makes a colour image grey"
    )


def test_a_test_set_of_training_images_alone_is_refused(tmp_path):
    path = save(tmp_path / "own.npz", **own())
    (tmp_path / "link.npz").symlink_to(path)
    for same in (path, str(tmp_path / "link.npz")):
        with pytest.raises(UserError, match="all 40 test images are among the training images; "):
            datasets.load(path, test_path=same)


def test_the_digest_of_all_examples_is_of_those_before_a_limit(tmp_path):
    path = save(tmp_path / "own.npz", **own())
    whole = datasets.examples_sha256(datasets.load(path))
    for options in ({"max_train_examples": 12}, {"max_test_examples": 5, "seed": 1}):
        assert datasets.examples_sha256(datasets.load(path, **options)) == whole
    save(tmp_path / "own.npz", **own(number=41))
    assert datasets.examples_sha256(datasets.load(path, max_train_examples=12)) != whole


# --- bad arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("cifar", {}, "did you mean 'cifar10'?"),
        ("~nobody-here/x.npz", {}, "config.dataset.name: ~nobody-here/x.npz: no such user"),
        ("x" * 300 + ".npz", {}, "File name too long"),
        ("cifar10", {"data_dir": "~nobody-here"}, "config.dataset.data_dir: ~nobody-here: no such"),
        ("cifar10", {"data_dir": "x" * 300}, "File name too long"),
        ("x", {}, "known: cifar10, cifar100, digits"),
        ("digits", {"test_fraction": 1.0}, "config.dataset.test_fraction: 1.0"),
        ("digits", {"test_fraction": 1e-6}, "leaves no test example"),
        ("digits", {"max_train_examples": -1}, "max_train_examples: -1; 0 or above"),
        ("digits", {"test_path": "a.npz"}, "config.dataset.test_path: 'a.npz' is usable only"),
    ],
)
def test_bad_arguments(name, options, part):
    with pytest.raises(UserError) as error:
        datasets.load(name, **options)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


# --- the real ones ---------------------------------------------------------------------------


@on_disk("cifar10")
def test_real_cifar10():
    data = datasets.load("cifar10")
    assert data.train.images.shape == (50000, 32, 32, 3)
    assert data.test.images.shape == (10000, 32, 32, 3)
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.class_names[:2] == ("airplane", "automobile")
    mean, std = datasets._moments(data.train.images)
    np.testing.assert_allclose(mean, data.mean, atol=1e-6)
    np.testing.assert_allclose(std, data.std, atol=1e-6)


@on_disk("mnist")
def test_real_mnist():
    data = datasets.load("mnist", max_train_examples=100)
    assert data.train.images.shape == (100, 28, 28, 1)
    assert data.test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(data.test.labels)[:3].tolist() == [980, 1135, 1032]


# --- clients and classes that a cut could lose -----------------------------------------------


def with_clients(path, client, classes=4, **changes):
    return save(path, **own(len(client), classes, client=np.array(client), **changes))


MIXED = [*range(30), *np.repeat(np.arange(30, 35), 10)]


def test_no_client_is_lost_to_the_test_set(tmp_path):
    data = datasets.load(with_clients(tmp_path / "own.npz", MIXED))
    assert np.unique(data.train.client).tolist() == list(range(35))
    assert np.bincount(data.test.client).tolist() == [0] * 30 + [2] * 5
    assert data.lost == (
        "config.dataset.test_fraction: 0.2 of 80 examples would be 16, but the test set has 10, as "
        "every client and class keeps one to train on",
    )
    assert data.cut_by == "client"


def test_duplicates_are_named_as_the_reason_of_a_small_test_set(tmp_path):
    """Each image is in both clients."""
    arrays = own(number=80, client=np.arange(80) // 40)
    arrays["images"][40:] = arrays["images"][:40]
    data = datasets.load(save(tmp_path / "own.npz", **arrays))
    number = len(data.test.labels)
    assert 0 < number < 14
    assert data.lost[0] == (
        "config.dataset.test_fraction: 0.2 of 80 examples would be 16, but the test set has "
        f"{number}, as {16 - number} images are copies of training images"
    )


def test_both_reasons_of_a_small_test_set_are_named(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (80, 8, 8, 1)).astype(np.uint8)
    images[60:] = images[40:60]
    arrays = {"images": images, "labels": np.arange(80) % 2, "client": np.array(MIXED)}
    data = datasets.load(save(tmp_path / "own.npz", **arrays))
    number = len(data.test.labels)
    assert 0 < number < 9
    assert data.lost[-1].endswith(
        f"the test set has {number}, as {10 - number} images are copies of training images and "
        "every client and class keeps one to train on"
    )


def test_images_with_two_labels_are_named(tmp_path):
    arrays = own(class_names=np.array(["ant", "bee", "cow", "dog"]))
    arrays["images"][7] = arrays["images"][8] = arrays["images"][5]  # bee, dog and ant
    arrays["images"][4] = arrays["images"][0]  # of the same class
    path = save(tmp_path / "own.npz", **arrays)
    line = f"{path}: 1 image occurs with different labels, first example 5 with 'bee' and example"
    assert datasets.load(path).lost[0] == f"{line} 7 with 'dog'"
    arrays["images"][3] = arrays["images"][2]
    path = save(tmp_path / "own.npz", **arrays)
    assert datasets.load(path).lost[0] == (
        f"{path}: 2 of 36 images occur with different labels, first example 2 with 'cow' and "
        "example 3 with 'dog'"
    )


def test_clients_of_one_image_leave_no_test_set(tmp_path):
    path = with_clients(tmp_path / "own.npz", range(60))
    message = "every client and class keeps one to train on; a separate test set is needed$"
    with pytest.raises(UserError, match=message):
        datasets.load(path)
    with pytest.raises(UserError, match=message):
        datasets.load(path, test_fraction=0.999)


def test_a_larger_part_is_suggested_where_it_leaves_a_test_set(tmp_path):
    path = with_clients(tmp_path / "own.npz", [*range(59), 58])
    with pytest.raises(UserError, match=r"a separate test set, or a larger fraction, is needed$"):
        datasets.load(path, test_fraction=0.001)
    assert len(datasets.load(path, test_fraction=0.999).test.labels) == 1


def test_no_client_is_lost_to_a_limit(tmp_path):
    client = [*np.repeat(np.arange(5), 120), *[77] * 12]
    data = datasets.load(with_clients(tmp_path / "own.npz", client), max_train_examples=20)
    assert np.unique(data.train.client).tolist() == [0, 1, 2, 3, 4, 77]
    assert len(data.train.labels) == 20
    assert np.bincount(data.train.labels).tolist() == [5, 5, 5, 5]
    assert data.lost == ()


def test_a_limit_below_the_number_of_clients_names_the_lost(tmp_path):
    client = 100 + np.repeat(np.arange(15), 5)
    data = datasets.load(with_clients(tmp_path / "own.npz", client), max_train_examples=10)
    assert len(data.train.labels) == 10
    lost = sorted(set(client) - set(data.train.client))
    (line,) = data.lost
    start = "config.dataset.max_train_examples: 10 leaves "
    assert line.startswith(f"{start}{len(lost)} of 15 clients without an example (`client` ")
    assert ", ".join(map(str, lost[:10])) in line


def test_a_rare_class_is_not_lost_to_a_limit(tmp_path):
    labels = np.r_[np.arange(300) % 3, [3] * 3]
    path = save(tmp_path / "own.npz", **own(303, labels=labels))
    data = datasets.load(path, max_train_examples=20)
    assert np.bincount(data.train.labels).tolist() == [6, 7, 6, 1]
    assert data.lost == ()
    before = datasets.load(path, max_train_examples=20, cut_by="class")
    assert np.bincount(before.train.labels).tolist() == [7, 7, 6]
    message = "config.dataset.max_train_examples: 20 leaves 1 of 4 classes without an example ('3')"
    assert before.lost == (message,)
    assert "leaves 2 of 4 classes" in datasets.load(path, max_train_examples=2).lost[0]


def test_classes_without_a_test_example_are_named(tmp_path):
    labels = np.r_[np.zeros(60, int), np.ones(38, int), [2] * 2]
    names = np.array(["ant", "bee", "cow"])
    data = datasets.load(save(tmp_path / "own.npz", **own(100, labels=labels, class_names=names)))
    assert data.lost == ("config.dataset: the test set has no example of 1 of 3 classes ('cow')",)
    assert datasets.load("digits").lost == ()
    assert "of 5 of 10 classes" in datasets.load("digits", max_test_examples=5).lost[0]


def test_cut_by_class_is_blind_to_clients_as_in_earlier_versions(tmp_path):
    one = with_clients(tmp_path / "one.npz", MIXED)
    two = save(tmp_path / "two.npz", **own(80))
    options = {"seed": 3, "max_train_examples": 40, "max_test_examples": 9}
    first, second = (datasets.load(path, cut_by="class", **options) for path in (one, two))
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert "clients without an example" in first.lost[0]
    assert first.cut_by == "class"


def test_the_rule_that_was_asked_for_gives_the_same_examples_again(tmp_path):
    labels = np.r_[np.arange(120) % 2, [2] * 2]
    path = save(tmp_path / "own.npz", **own(122, labels=labels))
    for name in (path, "digits"):
        for rule in ("class", "client"):
            first = datasets.load(name, max_train_examples=20, cut_by=rule)
            assert first.cut_by == rule
            again = datasets.load(name, max_train_examples=20, cut_by=first.cut_by)
            np.testing.assert_array_equal(first.train.images, again.train.images)


def test_a_cut_that_looks_at_clients_is_another_choice_of_the_test_set():
    blind, seeing = (
        datasets.choice_of_test_set("digits", cut_by=rule) for rule in ("class", "client")
    )
    assert blind != seeing


def test_one_hot_labels_keep_a_class_without_a_training_example(tmp_path):
    test = {"test_images": 255 - IMAGES[:3], "test_labels": np.eye(3)}
    path = save(tmp_path / "x.npz", **own(labels=np.eye(3)[np.arange(len(IMAGES)) % 2 * 2], **test))
    data = datasets.load(path)
    assert (data.num_classes, data.class_names, data.named) == (3, ("0", "1", "2"), False)
    assert data.test.labels.tolist() == [0, 1, 2]
    assert set(data.train.labels.tolist()) == {0, 2}
    assert data.lost == (f"{path}: 'labels': no training example is of 1 of 3 classes ('1')",)
