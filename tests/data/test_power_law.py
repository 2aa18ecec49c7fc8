"""FedProx's power law, and classes made equal: counts that can be worked out by hand."""

import numpy as np
import pytest

from fednas_jax.data import partition
from fednas_jax.data.power_law import power_law
from fednas_jax.runtime.errors import UserError
from tests.data.test_partition import Examples, one_line

# MNIST's train images by digit.
MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(10), MNIST_COUNTS))


def test_a_thousand_clients_with_two_digits_each():
    made = power_law(MNIST_LABELS, 1000, np.random.RandomState(42))
    partition.check(made, 60000)
    classes = partition.class_counts(made, MNIST_LABELS, 10)
    assert classes.sum(axis=0).tolist() == MNIST_COUNTS
    held = [np.flatnonzero(row).tolist() for row in classes]
    assert held == [sorted([i % 10, (i + 1) % 10]) for i in range(1000)]
    assert classes[classes > 0].min() == 5
    sizes = np.sort(partition.counts(made))
    # A heavy tail: the median client has little more than its least, one in a hundred very much.
    assert sizes[500] < 25
    assert sizes[-10:].sum() > 0.15 * 60000


def test_sizes_are_the_shares_of_the_draws_rounded_down():
    labels = np.repeat([0, 1], 100)
    made = power_law(labels, 2, np.random.RandomState(3), min_size=8, sigma=1.0)
    classes = partition.class_counts(made, labels, 2)
    draws = np.random.RandomState(3).lognormal(0.0, 1.0, (2, 2))
    # Client 0 holds classes 0, 1 and client 1 holds 1, 0, in this order; 4 each, then 92 by share.
    for drawn, counts in (
        ((draws[0, 0], draws[1, 1]), classes[:, 0]),
        ((draws[0, 1], draws[1, 0]), classes[:, 1]),
    ):
        exact = 4 + 92 * np.array(drawn) / sum(drawn)
        assert counts.sum() == 100
        assert (np.abs(counts - exact) < 1).all()


def test_the_least_is_rounded_up():
    """5 examples over two classes are 3 of each, so that no client has less than 5."""
    labels = np.arange(1000) % 10
    made = power_law(labels, 20, np.random.RandomState(1), min_size=5, sigma=3.0)
    classes = partition.class_counts(made, labels, 10)
    assert classes[classes > 0].min() == 3
    assert partition.counts(made).min() >= 6


def test_clients_need_not_be_a_multiple_of_the_classes():
    labels = np.arange(900) % 10
    made = power_law(labels, 9, np.random.RandomState(0))
    partition.check(made, 900)
    assert (partition.class_counts(made, labels, 10) > 0).sum(axis=1).tolist() == [2] * 9


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"num_clients": 8}, "num_clients: 8 clients with 2 classes each leave"),
        ({"labels_per_client": 11}, "labels_per_client: 11; at least 1 and at most 10, the"),
        ({"min_size": 1}, "min_size: 1; at least 2"),
        ({"sigma": 0.0}, "sigma: 0.0; a value above 0"),
        (
            {"min_size": 102},
            "min_size: 2 clients with 51 examples each of class 0 need 102 examples, but there are "
            "100; at most 100 is needed",
        ),
    ],
)
def test_what_cannot_be_dealt(options, part):
    arguments = {"num_clients": 10} | options
    with pytest.raises(UserError) as error:
        partition.make("power_law", Examples(np.arange(1000) % 10), seed=0, **arguments)
    assert f"config.partition.{part}" in one_line(error)


@pytest.mark.parametrize("name", ["homo", "hetero", "shards", "power_law", "natural"])
def test_balanced_deals_as_many_of_each_class_as_the_smallest_has(name):
    """Flower's `balance`, whose own arithmetic kept two digits of the ten."""
    examples = Examples(MNIST_LABELS, client=np.arange(60000) % 100)
    made = partition.make(name, examples, num_clients=100, seed=0, balanced=True)
    classes = partition.class_counts(made, MNIST_LABELS, 10)
    assert classes.sum(axis=0).tolist() == [5421] * 10
    partition.check(made, 60000, every=False)


def test_balanced_takes_each_example_of_a_larger_class_equally_often():
    # 10 of class 0; of class 1's 40 a quarter, in 400 partitions 100 times each, deviation 8.7.
    labels = np.repeat([0, 1], [10, 40])
    taken = np.zeros(50, int)
    for seed in range(400):
        made = partition.make("homo", Examples(labels), num_clients=2, seed=seed, balanced=True)
        taken[np.concatenate(made.clients)] += 1
    assert (taken[:10] == 400).all()
    assert taken[10:].sum() == 4000
    assert taken[10:].min() > 60
    assert taken[10:].max() < 140


def test_balanced_shards_of_two_digits():
    made = partition.make("shards", Examples(MNIST_LABELS), num_clients=100, seed=0, balanced=True)
    held = (partition.class_counts(made, MNIST_LABELS, 10) > 0).sum(axis=1)
    assert held.max() <= 4
    assert 1.5 < held.mean() < 2.5


@pytest.mark.parametrize("name", ["table", "file"])
def test_what_says_itself_what_is_dealt_cannot_be_balanced(name):
    with pytest.raises(UserError) as error:
        partition.make(name, Examples(MNIST_LABELS), num_clients=1, seed=0, balanced=True)
    assert "config.partition.balanced" in one_line(error)


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        (
            [0] * 9 + [1] * 2,
            "fewer clients that share a class (num_clients, labels_per_client), or ",
        ),
        ([0] * 9 + [2] * 9, "another partition, such as 'hetero', is needed"),
    ],
)
def test_where_no_smaller_size_helps_none_is_advised(labels, right):
    """With 6 clients of one class each, 2 or 3 clients share each class."""
    with pytest.raises(UserError) as error:
        partition.make(
            "power_law",
            Examples(np.array(labels)),
            num_clients=6,
            min_size=1,
            seed=0,
            labels_per_client=1,
        )
    assert one_line(error).startswith("config.partition.name: ")
    assert right in one_line(error)
    assert "min_size" not in one_line(error)
