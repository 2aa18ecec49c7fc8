"""Cells one after another: their plans, and runs of equal ones looped over or not."""

import itertools

import pytest

from fednas_jax.spaces.darts.sources import Geometry
from fednas_jax.spaces.darts.stack import plan_cells, runs_of_equal_cells
from tests.plain.layout import random_like
from tests.plain.parameters import cell_plans
from tests.spaces.darts.cell_runs import Run, assert_close


def test_plan_of_the_paper():
    plans = plan_cells(16, 8, Geometry(32, 32, 64))
    assert [p.layer for p in plans if p.reduction] == [2, 5]
    assert [p.channels for p in plans] == [16, 16, 32, 32, 32, 64, 64, 64]
    assert [p.out_geometry.height for p in plans] == [32, 32, 16, 16, 16, 8, 8, 8]
    assert [p.layer for p in plans if p.halve_first] == [3, 6]
    assert plans[0].in_channels == (48, 48)
    assert plans[3].in_channels == (64, 128)
    assert {p.out_geometry.batch for p in plans} == {64}


@pytest.mark.parametrize("layers", range(3, 12))
def test_plans_are_those_of_the_plain_supernet(layers):
    ours = plan_cells(8, layers, Geometry(9, 8, 2))
    for plan, theirs in zip(ours, cell_plans(8, layers), strict=True):
        assert (plan.channels, plan.in_channels) == (theirs.channels, theirs.inputs)
        assert (plan.reduction, plan.halve_first) == (theirs.reduction, theirs.previous_reduction)
    for one, following in itertools.pairwise(ours):
        assert following.geometries[1] == one.out_geometry


def test_odd_sizes_are_halved_upwards():
    plans = plan_cells(8, 3, Geometry(9, 14, 2))
    assert [p.out_geometry[:2] for p in plans] == [(9, 14), (5, 7), (3, 4)]


@pytest.mark.parametrize(
    ("layers", "runs"),
    [
        (3, [[0], [1], [2]]),
        (5, [[0], [1], [2], [3], [4]]),
        (8, [[0, 1], [2], [3, 4], [5], [6, 7]]),
        (11, [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9, 10]]),
    ],
)
def test_runs_lie_between_reductions(layers, runs):
    plans = plan_cells(4, layers, Geometry(8, 8, 1))
    assert [[p.layer for p in run] for run in runs_of_equal_cells(plans)] == runs


# Runs, forth and back, in float64. Programs take long to compile, so each combination of switches
# is compared with the plain cells once: looped cells, and rematerialised ones, here; unrolled
# and rematerialised ones in test_cell.py; plainly unrolled ones in test_supernet.py.

IMAGES = Geometry(10, 11, 3)
ALPHAS = random_like((14, 8), 6)


@pytest.fixture
def first_run(x64):
    """Three cells that start at the stem: the first has other channels in both of its inputs."""
    return Run(2, 9, slice(0, 3), IMAGES)


@pytest.fixture
def later_run(x64):
    """Two cells after a reduction: the first has to halve its older input."""
    return Run(2, 8, slice(3, 5), IMAGES)


def test_scanned_run_and_its_gradients(first_run):
    ours = first_run.ours(scan_cells=True, scan_sources=False, remat=False)
    assert_close(ours(ALPHAS), first_run.plain(ALPHAS))


def test_scanned_and_rematerialized_run_after_a_reduction_and_its_gradients(later_run):
    ours = later_run.ours(scan_cells=True, scan_sources=True, remat=True)
    assert_close(ours(ALPHAS), later_run.plain(ALPHAS))


def test_scanned_and_unrolled_runs_agree_in_evaluation(later_run):
    running = later_run.running()
    expected = later_run.plain_forward(ALPHAS, running)
    outcomes = [
        later_run.ours_forward(ALPHAS, running, scan_cells=scan, scan_sources=scan, remat=False)
        for scan in (True, False)
    ]
    for outcome in outcomes:
        assert_close(outcome, expected)
    assert_close(*outcomes, rtol=1e-13)
