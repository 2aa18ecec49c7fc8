"""Partitions: the paper's Table 2, what must hold for any input, and bad input."""

import io
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednas_jax.data import partition
from fednas_jax.data.datasets import Split
from fednas_jax.runtime.errors import UserError

CIFAR_LABELS = np.repeat(np.arange(10), 5000)
# Without the thrown-away draw: what the originals' single-process version made of 16 clients.
SINGLE_PROCESS_SIZES = [
    *(1432, 3331, 2058, 3218, 3144, 3870, 3929, 3128),
    *(3255, 3410, 3517, 3655, 1585, 3191, 4479, 2798),
]
fast = settings(deadline=None, max_examples=25)


class Examples(NamedTuple):
    labels: np.ndarray
    client: np.ndarray | None = None


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


# --- golden values ---------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle_seed", [None, 0, 7])
def test_hetero_reproduces_table_2_exactly(shuffle_seed):
    labels = CIFAR_LABELS
    if shuffle_seed is not None:
        labels = np.random.RandomState(shuffle_seed).permutation(labels)
    made = partition.hetero(labels, 16, partition.paper_rng(16), max_tries=1)
    table = partition.read_table("fednas_table2")
    np.testing.assert_array_equal(partition.class_counts(made, labels, 10), table)
    partition.check(made, 50000)


def test_hetero_reproduces_the_single_process_partition():
    made = partition.hetero(CIFAR_LABELS, 16, np.random.RandomState(0), max_tries=1)
    assert partition.counts(made).tolist() == SINGLE_PROCESS_SIZES
    classes = partition.class_counts(made, CIFAR_LABELS, 10)
    assert classes[0].tolist() == [541, 213, 34, 179, 13, 99, 20, 37, 107, 189]
    assert classes[15].tolist() == [156, 836, 398, 107, 755, 12, 415, 2, 24, 93]


def test_table_2_is_the_one_of_the_paper():
    table = partition.read_table("fednas_table2")
    assert table.shape == (16, 10)
    assert table.sum(axis=0).tolist() == [5000] * 10
    assert table.sum(axis=1).tolist() == [
        *(4497, 1314, 2745, 3302, 3347, 3654, 2859, 3366),
        *(2619, 1880, 3092, 3153, 3008, 3784, 3883, 3497),
    ]
    assert table[7].tolist() == [87, 2, 131, 1325, 0, 1117, 704, 0, 0, 0]


def test_seed_minus_one_means_the_paper_in_hetero_and_table():
    labels = np.random.RandomState(1).permutation(CIFAR_LABELS)
    for name in ("hetero", "table"):
        made = partition.make(name, Examples(labels), num_clients=16, seed=-1)
        np.testing.assert_array_equal(
            partition.class_counts(made, labels, 10), partition.read_table("fednas_table2")
        )


# --- what must hold for any input ------------------------------------------------------------

labels_of = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(np.array)


@fast
@given(labels=labels_of, share=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_homo_deals_everything_in_near_equal_parts(labels, share, seed):
    num_clients = max(1, int(len(labels) * share))
    made = partition.homo(labels, num_clients, np.random.RandomState(seed))
    partition.check(made, len(labels))
    sizes = partition.counts(made)
    assert len(sizes) == num_clients
    assert sizes.max() - sizes.min() <= 1


@fast
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(lambda s: sum(s) >= 20),
    num_clients=st.integers(1, 5),
    concentration=st.sampled_from([1e-300, 0.01, 0.5, 10.0, 1000.0]),
    seed=st.integers(0, 99),
)
def test_hetero_deals_everything_or_says_why_not(sizes, num_clients, concentration, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.RandomState(seed)
    labels = rng.permutation(labels)
    try:
        made = partition.hetero(
            labels, num_clients, rng, concentration=concentration, min_size=2, max_tries=20
        )
    except UserError:
        return
    partition.check(made, len(labels))
    assert partition.counts(made).min() >= 2
    totals = partition.class_counts(made, labels, len(sizes)).sum(axis=0)
    assert totals.tolist() == sizes


@fast
@given(
    counts=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=6),
    spare=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_table_gives_what_it_says_and_leaves_the_rest(counts, spare, seed):
    counts = np.array(counts)
    rng = np.random.RandomState(seed)
    labels = rng.permutation(np.repeat(np.arange(3), counts.sum(axis=0) + spare))
    made = partition.table(labels, counts, rng)
    np.testing.assert_array_equal(partition.class_counts(made, labels, 3), counts)
    partition.check(made, len(labels), every=sum(spare) == 0) if len(labels) else None


@fast
@given(
    labels=labels_of.filter(lambda x: len(x) >= 12),
    num_clients=st.integers(1, 6),
    each=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_shards_deals_everything_in_near_equal_parts(labels, num_clients, each, seed):
    rng = np.random.RandomState(seed)
    made = partition.shards(labels, num_clients, rng, shards_per_client=each)
    partition.check(made, len(labels))
    sizes = partition.counts(made)
    assert sizes.max() - sizes.min() <= each


@fast
@given(column=st.lists(st.integers(-3, 9), min_size=1, max_size=80), seed=st.integers(0, 99))
def test_natural_is_one_client_a_value_in_order(column, seed):
    column = np.array(column)
    made = partition.natural(column, 0, np.random.RandomState(seed))
    partition.check(made, len(column))
    values = [np.unique(column[indices]).tolist() for indices in made.clients]
    assert values == [[value] for value in sorted(set(column.tolist()))]


@fast
@given(
    table=st.lists(st.lists(st.integers(20, 99), min_size=2, max_size=2), min_size=1, max_size=8),
    fraction=st.floats(0.05, 1),
)
def test_a_scaled_table_fits_and_stays_close(table, fraction):
    table = np.array(table)
    small = partition.scale_table(table, fraction)
    want = np.floor(table.sum(axis=0) * fraction + 1e-9)
    np.testing.assert_array_equal(small.sum(axis=0), want)
    assert (np.abs(small - table * fraction) < 1 + 1e-6).all()
    assert (small <= table).all()


@pytest.mark.parametrize("name", ["homo", "hetero", "shards", "natural"])
def test_same_seed_same_partition_and_clients_are_shuffled(name):
    labels = np.arange(600) % 5
    examples = Examples(labels, client=np.arange(600) // 150)
    first, again, other = (
        partition.make(name, examples, num_clients=4, seed=seed) for seed in (3, 3, 4)
    )
    for a, b in zip(first.clients, again.clients, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first.clients, other.clients, strict=True))
    assert all(indices.dtype == np.int32 for indices in first.clients)
    assert all((np.diff(indices) < 0).any() for indices in first.clients)


# --- by hand ---------------------------------------------------------------------------------


def test_shards_of_two_equal_classes_are_pure():
    labels = np.array([1, 0] * 50)
    made = partition.shards(labels, 10, np.random.RandomState(0), shards_per_client=1)
    classes = partition.class_counts(made, labels, 2)
    assert sorted(classes.tolist()) == [[0, 10]] * 5 + [[10, 0]] * 5


@pytest.mark.parametrize("seed", range(8))
def test_a_client_that_holds_exactly_its_share_gets_no_more(seed):
    # A concentration so small that a class goes to one client whole. After the first class this
    # client holds 10 of 20 = N/K, so the second class goes to the other one.
    labels = np.repeat([0, 1], 10)
    made = partition.hetero(
        labels, 2, np.random.RandomState(seed), concentration=1e-300, max_tries=1
    )
    classes = partition.class_counts(made, labels, 2).tolist()
    assert sorted(classes) == [[0, 10], [10, 0]]


def test_scale_table_by_hand():
    # Column totals 10 and 3 at 0.5: 5 and 1. The ties (2.5, 2.5; 0.5, 0.5) go to client 0.
    table = np.array([[5, 1], [5, 1], [0, 1]])
    with pytest.raises(UserError, match="leaves client 2 without examples"):
        partition.scale_table(table, 0.5)
    assert partition.scale_table(table[:2], 0.5).tolist() == [[3, 1], [2, 0]]
    assert partition.scale_table(np.array([[100]]), 0.29).tolist() == [[29]]
    assert partition.scale_table(np.array([[4], [0]]), 0.5).tolist() == [[2], [0]]


def test_table_fraction_in_make():
    made = partition.make(
        "table", Examples(CIFAR_LABELS), num_clients=3, seed=0, table_fraction=0.04
    )
    assert len(made.clients) == 16
    assert partition.class_counts(made, CIFAR_LABELS, 10).sum(axis=0).tolist() == [200] * 10
    partition.check(made, 50000, every=False)


# --- files -----------------------------------------------------------------------------------


def test_save_and_load_give_the_same(tmp_path):
    path = tmp_path / "partition.npz"
    made = partition.Partition((np.array([4, 0], np.int32), np.array([], np.int32)))
    partition.save(path, made)
    loaded = partition.load(path, 5)
    assert [indices.tolist() for indices in loaded.clients] == [[4, 0], []]
    examples = Examples(np.zeros(5, int))
    by_name = partition.make("file", examples, num_clients=9, seed=0, path=str(path))
    assert [indices.tolist() for indices in by_name.clients] == [[4, 0], []]


INTEGERS = np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"indices": INTEGERS}, "key 'counts' is missing"),
        ({"indices": INTEGERS * 0.5, "counts": [3]}, "'indices' is float64"),
        ({"indices": INTEGERS, "counts": [[3]]}, "'counts' is int64 of rank 2"),
        ({"indices": INTEGERS, "counts": [1, 1]}, "adds up to 2"),
        ({"indices": INTEGERS, "counts": [4, -1]}, "'counts' is empty or out of range"),
        (
            {"indices": INTEGERS + 8, "counts": [3]},
            "has 8..10; indices count the run's 10 training ex",
        ),
        (
            {"indices": np.array([2**63 - 1]), "counts": [1]},
            "split off and config.dataset.max_train_examples is applied: 0..9 are needed",
        ),
        ({"indices": np.array([1, 1]), "counts": [1, 1]}, "example 1 is dealt twice"),
        ({"indices": INTEGERS[:0], "counts": [0]}, "above 0"),
        ({"indices": np.array([{}]), "counts": [1]}, "pickled"),
    ],
)
def test_bad_partition_files_are_refused(tmp_path, arrays, part):
    path = tmp_path / "p.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError) as error:
        partition.load(path, 10)
    assert part in one_line(error)
    assert str(path) in str(error.value)


def test_files_that_are_no_npz_are_refused(tmp_path):
    whole = io.BytesIO()
    np.savez(whole, indices=INTEGERS, counts=np.array([3]))
    for name, content in {
        "empty": b"",
        "text": b"client,c0\n",
        "half": whole.getvalue()[: len(whole.getvalue()) // 2],
        "flipped": whole.getvalue()[:140] + b"\xff" + whole.getvalue()[141:],
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            partition.load(path, 10)
        assert str(path) in one_line(error)
    array = tmp_path / "array.npy"
    np.save(array, INTEGERS)
    for path in (array, tmp_path / "missing.npz", tmp_path):
        with pytest.raises(UserError) as error:
            partition.load(path, 10)
        assert str(path) in one_line(error)


@pytest.mark.parametrize(
    "text",
    [
        "client,c0,c1,,\n0,1,2,,\n1,3,4,,\n",  # as Excel writes them
        "client,c0,c1,\n0,1,2\n1,3,4, , ,\n,,,\n\n,,\n",
        ",,\nclient,c0,c1\n,,,,\n0,1,2,\n1,3,4\n",
    ],
)
def test_a_tables_empty_cells_after_the_last_column_and_empty_rows_are_ignored(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert partition.read_table(path).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "first row must be"),
        (",,\n", "first row must be"),
        ("client,c0,\n0,1,2\n", "row 2: 3 columns; 2 as in the header"),
        ("client,c0,c1,\n0,1,,\n", "row 2, column 'c1': '' is not a count"),
        ("client,c0\n,,\n0,1\n,,\n1,x\n", "row 5, column 'c0': 'x' is not a count"),
        ("c0,c1\n1,2\n", "first row must be"),
        ("client,c1,c0\n0,1,2\n", "first row must be"),
        ("client,c0\n", "no client"),
        ("client,c0\n0,1\n1\n", "row 3: 1 columns; 2"),
        ("client,c0\n1,1\n", "row 2, column 'client': '1'"),
        ("client,c0,c1\n0,1,x\n", "row 2, column 'c1': 'x' is not a count"),
        ("client,c0\n0,-1\n", "row 2, column 'c0': '-1'"),
        ("client,c0\n0,1.5\n", "'1.5' is not a count"),
        ("client,c0\n0,9999999999\n", "too large"),
        ("client,c0\n0,99999999999999999999\n", "not a count"),
        ("client,c0\n0,0\n", "all counts are 0"),
        ('client,c0\n0,"1\n', "not a count"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, part):
    path = tmp_path / "t.csv"
    path.write_text(text)
    if part == "not a count" and '"' in text:
        assert partition.read_table(path).tolist() == [[1]]  # csv closes an open quote by itself
        return
    with pytest.raises(UserError) as error:
        partition.read_table(path)
    assert part in one_line(error)
    assert str(path) in str(error.value)


def test_tables_that_cannot_be_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"client,c0\n0,\xff\n")
    for bad, part in (
        (path, "not UTF-8 text"),
        (tmp_path / "none.csv", "No such file"),
        ("fednas_table", "did you mean 'fednas_table2'?"),
    ):
        with pytest.raises(UserError) as error:
            partition.read_table(bad)
        assert part in one_line(error)


# --- what cannot be made ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("hetro", {}, "did you mean 'hetero'?"),
        ("homo", {"num_clients": 0}, "config.partition.num_clients: 0; at least 1"),
        ("homo", {"num_clients": 101}, "config.partition.num_clients: 101"),
        (
            "hetero",
            {"min_size": 26},
            "4 clients with 26 examples each need 104 examples, but there are 100; at most 25, or "
            "fewer clients (config.partition.num_clients), is needed",
        ),
        (
            "hetero",
            {"min_size": 25, "max_tries": 5},
            "config.partition.min_size: 25 was not reached in 5",
        ),
        ("hetero", {"concentration": 0.0}, "config.partition.concentration: 0.0; a value above 0"),
        ("hetero", {"min_size": 0}, "config.partition.min_size: 0; at least 1"),
        (
            "shards",
            {"shards_per_client": 26},
            "there are 100; at most 25 for each client is needed",
        ),
        ("shards", {"shards_per_client": 0}, "config.partition.shards_per_client: 0; at least 1"),
        ("natural", {}, "`client` column"),
        ("table", {}, "5000 examples of class 0, but there are 50"),
        ("table", {"table_fraction": 1.5}, "config.partition.table_fraction: 1.5"),
        ("file", {"path": ""}, "cannot be read"),
        ("file", {"path": "~nobody-here/x.npz"}, "config.partition.path: ~nobody-here/x.npz: no"),
        ("file", {"path": "x" * 300}, "File name too long"),
        ("table", {"table": "~nobody-here/x.csv"}, "config.partition.table: ~nobody-here/x.csv: "),
        ("table", {"table": "x" * 300 + ".csv"}, "File name too long"),
    ],
)
def test_partitions_that_cannot_be_made(name, options, part):
    examples = Examples(np.arange(100) % 2)
    with pytest.raises(UserError) as error:
        partition.make(name, examples, **({"num_clients": 4, "seed": 0} | options))
    assert part in one_line(error)


def test_a_message_advises_only_what_is_accepted():
    labels = np.repeat([0, 1], [97, 3])
    hetero = {"concentration": 1e-9, "max_tries": 2, "num_clients": 40, "seed": 0}
    for min_size, smaller in ((2, True), (1, False)):
        with pytest.raises(UserError) as error:
            partition.make("hetero", Examples(labels), min_size=min_size, **hetero)
        assert ("); a smaller one is needed, or fewer clients" in one_line(error)) == smaller
        assert ("); fewer clients (config.partition.num_clients, 40), or" in one_line(error)) != (
            smaller
        )
    with pytest.raises(UserError, match=r"there are 100; at most 100 is needed$"):
        partition.make("hetero", Examples(labels), num_clients=1, min_size=101, seed=0)
    with pytest.raises(UserError, match=r"there are 100; at most 100 for each client is needed$"):
        partition.make("shards", Examples(labels), num_clients=1, shards_per_client=101, seed=0)


def test_table_with_too_few_class_columns():
    with pytest.raises(UserError, match="2 class columns, but the data has 3"):
        partition.table(np.arange(3), np.ones((1, 2), int), np.random.RandomState(0))


def test_natural_with_another_number_of_clients():
    with pytest.raises(UserError, match="has 3 values"):
        partition.natural(np.arange(3), 2, np.random.RandomState(0))


@pytest.mark.parametrize(
    ("clients", "part"),
    [
        (([0, 1], [1]), "example 1 is dealt twice"),
        (([0, 3],), "client 0 has index 3"),
        (([2], [-1]), "client 1 has index -1"),
        (([0, 2],), "example 1 is dealt to no client"),
    ],
)
def test_check_names_what_is_wrong(clients, part):
    made = partition.Partition(tuple(np.array(c, np.int32) for c in clients))
    with pytest.raises(UserError, match=part):
        partition.check(made, 3)


def test_what_the_data_calls_the_clients_of_a_partition():
    column = np.array([7, 7, 9, 4, 9])

    def ids(*clients):
        parts = tuple(np.array(client, np.int32) for client in clients)
        return partition.ids(partition.Partition(parts), column)

    assert ids([3], [1, 0], [2, 4]) == [4, 7, 9]
    assert ids([3], [1], [4]) == [4, 7, 9]  # some of its examples
    assert ids([3], [1, 2]) is None  # of two clients of the data
    assert ids([0], [1]) is None  # a client of the data in two parts
    assert ids([0], []) is None
    assert partition.ids(partition.Partition((np.array([0]),)), None) is None
    dealt = partition.natural(column, 0, np.random.RandomState(0))
    assert partition.ids(dealt, column) == [4, 7, 9]


# --- which examples a file's indices count -----------------------------------------------------


def counted(*values):
    """Examples of one grey level each."""
    images = np.array(values, np.uint8)[:, None, None, None] + np.zeros((1, 8, 8, 1), np.uint8)
    return Split(images, np.arange(len(values), dtype=np.int32), None)


def test_a_file_says_which_examples_its_indices_count(tmp_path):
    path, examples = tmp_path / "partition.npz", counted(1, 2, 3)
    made = partition.Partition((np.array([2, 0], np.int32), np.array([1], np.int32)))
    partition.save(path, made, examples)
    options = {"num_clients": 2, "seed": 0, "path": str(path)}
    loaded = partition.make("file", examples, **options)
    assert [indices.tolist() for indices in loaded.clients] == [[2, 0], [1]]
    others = (
        counted(1, 3, 2),  # the same images in another order
        counted(1, 2, 4),
        examples._replace(labels=examples.labels[::-1]),
        counted(1, 2, 3, 4),
    )
    for other in others:
        message = r"config\.partition\.path: the partition in .*partition\.npz is for other"
        with pytest.raises(UserError, match=message) as error:
            partition.make("file", other, **options)
        one_line(error)
    # Labels alone cannot be told from others.
    partition.make("file", Examples(np.zeros(3, int)), **options)


@pytest.mark.parametrize("value", [np.zeros(64, np.uint8), np.array(["ab"]), 5])
def test_what_is_no_fingerprint_is_refused(tmp_path, value):
    np.savez(tmp_path / "p.npz", indices=INTEGERS, counts=[3], examples_sha256=value)
    with pytest.raises(UserError, match=r"p\.npz: 'examples_sha256' is .* of rank .; one text"):
        partition.load(tmp_path / "p.npz", 3)
