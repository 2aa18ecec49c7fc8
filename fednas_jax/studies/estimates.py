"""How long the rest of several runs will take, judged by those that are done.

A run takes the time to compile, and the time of its rounds. The second grows with its work, which
is rounds x local epochs x the share of the clients in a round. A run that differs from an earlier
one only in seed and length has the same programs, which are then in the cache.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fednas_jax import config as schema

_LENGTH = ("rounds", "local_epochs", "clients_per_round", "clients_fraction")
"""Fields that make a run longer, and leave the cost of its local steps as it is."""
_WORTH_A_RANGE = 1.3
"""Ratio of the two ends of an estimate from which both are told."""

_NOT_OF_STEPS = (
    *("seed", "optimizer", "arch_optimizer", "server", "partition", "client", "augment", "faults"),
    *("report", "test_every", "held_out_every", "checkpoint_every", "checkpoints_to_keep"),
)
"""Other fields and sections that leave the cost of a local step about as it is."""


class Job(NamedTuple):
    """What the time of a run depends on."""

    algorithm: str
    steps: str
    """Runs with the same text have local steps that take equally long."""
    programs: str
    """Runs with the same text share their compiled programs."""
    work: float
    """Local epochs of all clients, over all rounds."""
    weight: float | None = None
    """Cost of an example, such as multiply-adds, relative to other runs; None if unknown."""


class Done(NamedTuple):
    """A run that is done."""

    job: Job
    seconds: float
    """Wall-clock seconds, of which `compile_seconds` compiling."""
    compile_seconds: float


class Rest(NamedTuple):
    """The estimate for the runs that are left."""

    seconds: float
    """At least, for those of which something is known."""
    most: float
    """At most. The two differ where a network has not run yet."""
    unknown: int
    """Number of runs of an algorithm of which no run is done."""


def job(config: schema.Config, weight: float | None = None, *, done: int = 0) -> Job:
    """What the time of a run depends on.

    Args:
      config: of the run, resolved.
      weight: as in `Job`.
      done: number of rounds that it has made already.
    """
    flat = schema.flat(config)
    programs = {name: x for name, x in flat.items() if name not in ("seed", *_LENGTH)}
    steps = {name: x for name, x in programs.items() if name.split(".")[0] not in _NOT_OF_STEPS}
    share = flat["clients_fraction"]
    if flat["clients_per_round"]:
        share = min(1.0, flat["clients_per_round"] / flat["partition.num_clients"])
    work = max(0, flat["rounds"] - done) * flat["local_epochs"] * share
    return Job(str(flat["algorithm"]), _text(steps), _text(programs), work, weight)


def rest(done: Sequence[Done], left: Sequence[Job]) -> Rest:
    """How long the runs that are left will take.

    A run takes as long per work as the runs with equal steps did; without such runs, as long as the
    mean of the runs of its algorithm. If `weight` is known of all, that of the nearest weight is
    taken: the time lies between that time and that time scaled by the weight, since a part of a
    round's time does not depend on the network.

    Args:
      done: the runs that are done; those without work are left out.
      left: the others, in their order.
    """
    done = [one for one in done if one.job.work > 0]
    compiled = {one.job.programs for one in done}
    seconds, most, unknown = 0.0, 0.0, 0
    for one in left:
        similar = [other for other in done if other.job.algorithm == one.algorithm]
        if not similar:
            unknown += 1
            continue
        low, high = _seconds_per_work(similar, one)
        to_compile = _seconds_to_compile(similar, again=one.programs in compiled)
        seconds += one.work * low + to_compile
        most += one.work * high + to_compile
        compiled.add(one.programs)
    return Rest(seconds, most, unknown)


def told(done: Sequence[Done], left: Sequence[Job]) -> str:
    """The estimate in words, such as "3 runs left, about 12 min"; "" if nothing is known or left.

    Args:
      done: as for `rest`.
      left: as for `rest`.
    """
    found = rest(done, left)
    known = len(left) - found.unknown
    if not known:
        return ""
    time = duration(found.seconds)
    if found.most > _WORTH_A_RANGE * found.seconds:
        time += f" to {duration(found.most)}"
    line = f"{len(left)} {'runs' if len(left) > 1 else 'run'} left, about {time}"
    if found.unknown:
        others = "the other" if found.unknown == 1 else f"the other {found.unknown}"
        line += f" for {known} of them; the algorithm of {others} has not run yet"
    return line


def duration(seconds: float) -> str:
    """A time in words, with about two digits: "40 s", "12 min", "3.4 h", "2.5 days"."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 99.5 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _seconds_per_work(similar: Sequence[Done], one: Job) -> tuple[float, float]:
    """At least and at most."""
    same = [_speed(other) for other in similar if other.job.steps == one.steps]
    weights = [other.job.weight or 0.0 for other in similar]
    if same or one.weight is None or not all(weights):
        mean = statistics.fmean(same or map(_speed, similar))
        return mean, mean
    ratios = [one.weight / weight for weight in weights]
    nearest = min(ratios, key=lambda ratio: abs(math.log(ratio)))
    near = [_speed(o) for o, ratio in zip(similar, ratios, strict=True) if ratio == nearest]
    mean = statistics.fmean(near)
    return min(mean, mean * nearest), max(mean, mean * nearest)


def _speed(one: Done) -> float:
    return max(0.0, one.seconds - one.compile_seconds) / one.job.work


def _seconds_to_compile(similar: Sequence[Done], *, again: bool) -> float:
    """The mean of the runs that were the first with their programs, or of those that were not."""
    first: dict[str, float] = {}
    later = []
    for one in similar:
        if one.job.programs in first:
            later.append(one.compile_seconds)
        first.setdefault(one.job.programs, one.compile_seconds)
    if again:
        return statistics.fmean(later) if later else 0.0
    return statistics.fmean(first.values())


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)
