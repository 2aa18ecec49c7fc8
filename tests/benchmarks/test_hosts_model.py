"""The model of many hosts, against figures worked out by hand."""

import jax
import pytest

from benchmarks import cases, hosts_model
from benchmarks.hosts_model import Network, Workload, doubling, half_at, ring, round_seconds
from fednas_jax.experiment import assembly

GIGABIT = Network("1 Gbit/s", 1e9, 1e-3)


def test_ring_sends_least_bytes_and_waits_for_every_hop():
    # 1 MB takes 8 ms. 4 ranks: 3/2 of it, and 6 messages of 1 ms.
    assert ring(4, 1e6, GIGABIT) == pytest.approx(0.012 + 0.006)
    assert ring(2, 1e6, GIGABIT) == pytest.approx(0.008 + 0.002)
    assert ring(1, 1e6, GIGABIT) == 0


@pytest.mark.parametrize(("ranks", "messages"), [(1, 0), (2, 1), (3, 3), (4, 2), (6, 4), (16, 4)])
def test_doubling_sends_all_in_every_message(ranks, messages):
    assert doubling(ranks, 1e6, GIGABIT) == pytest.approx(messages * 0.009)


def test_round_is_the_busiest_ranks_work_and_the_sum():
    workload = Workload("five", (10,) * 5, 0.1, 1_000_000)
    # Of 5 clients, one of 4 ranks has two, as one of 3 has.
    assert round_seconds(workload, 1, GIGABIT) == pytest.approx(5.0)
    assert round_seconds(workload, 3, GIGABIT) == pytest.approx(2.0 + 4 / 3 * 0.008 + 0.004)
    assert round_seconds(workload, 4, GIGABIT) == pytest.approx(2.0 + 0.018)
    assert round_seconds(workload, 4, GIGABIT, doubling) == pytest.approx(2.0 + 0.018)


def test_unlike_clients_are_dealt_the_longest_first():
    workload = Workload("unlike", (1, 7, 2, 2, 2), 1.0, 0)
    assert [workload.work_seconds(n) for n in (1, 2, 3)] == [14, 7, 7]


def test_half_of_a_round():
    work = Workload("work", (1,) * 8, 0.018, 1_000_000)
    # Of 2 to 8 ranks the all-reduce: 10, 15, 18, 21, 23, 26, 28 ms; the work: 72, 54, 36, 36, 36,
    # 36, 18 ms.
    assert half_at(work, GIGABIT) == 8
    assert half_at(work._replace(step_seconds=0.0025), GIGABIT) == 2
    assert half_at(work._replace(step_seconds=1.0), GIGABIT) is None


def test_a_step_at_half_makes_half():
    for workload in hosts_model.WORKLOADS:
        for network in hosts_model.NETWORKS:
            clients = len(workload.local_steps)
            short = hosts_model.step_at_half(workload, clients, network)
            at_half = workload._replace(step_seconds=short)
            sending = ring(clients, workload.payload_bytes, network)
            assert round_seconds(at_half, clients, network) == pytest.approx(2 * sending)


def test_workloads_are_the_papers():
    supernet, _, cnn = hosts_model.WORKLOADS
    assert sum(hosts_model.table2_steps(1)) == 384  # as configs/cifar_hetero.py has it
    assert len(supernet.local_steps) == 16
    assert len(cnn.local_steps) == 100
    config = cases.config(cases.find("paper64"))
    algorithm = assembly.build_algorithm(config, cases.population(
        cases.find("paper64"), config, clients=1, steps=1).dataset)  # fmt: skip
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    weights = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert supernet.payload_bytes == 4 * (weights + 1)


def test_report_says_what_is_assumed():
    text = hosts_model.report()
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(hosts_model.WORKLOADS) * 2 * len(hosts_model.NETWORKS)
    assert "never up to 16" in text
    assert "not measured" in text
    assert hosts_model.ASSUMPTIONS in text
