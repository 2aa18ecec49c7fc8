"""Faults of the clients of a round, drawn before it, so that no discarded work is computed.

A client may drop out while it computes, may be too slow for a deadline, or may return after the
server has enough results (over-selection: Bonawitz et al., Towards Federated Learning at Scale,
MLSys 2019, arXiv:1902.01046, Section 2.2). The unit of time is the local step of a client of speed
1.
"""

from typing import NamedTuple

import jax
import numpy as np

from fednas_jax.federated.cohort import LOCAL_EPOCHS, STEP_LIMIT, Attendance, host_rng


class Faults(NamedTuple):
    """The faults to simulate and how to treat them; `fednas_jax.config` explains each field."""

    dropout_share: float = 0.0
    dropouts: str = "lose"
    deadline_steps: int = 0
    late: str = "drop"
    speed_sigma: float = 0.0
    extra_share: float = 0.0

    @property
    def any(self) -> bool:
        """Whether any fault is simulated."""
        return bool(self.dropout_share or self.deadline_steps or self.extra_share)

    @property
    def partial(self) -> bool:
        """Whether partial work, of clients that made only some of their local steps, is used."""
        kept_dropouts = self.dropout_share and self.dropouts == "keep"
        return bool(kept_dropouts or (self.deadline_steps and self.late == "keep"))

    def drawn(self, cohort_size: int, num_clients: int) -> int:
        """The number of clients to select for `cohort_size` results, including additional ones."""
        return min(num_clients, cohort_size + round(self.extra_share * cohort_size))


class Participants(NamedTuple):
    """The clients whose results are used in a round."""

    ids: np.ndarray
    """[n] int32, ascending."""
    epochs: np.ndarray | None
    """[n] int32: local epochs of each client; None where all make the same number."""
    steps: np.ndarray | None
    """[n] int32: local steps of each client over all its epochs; None where all make all steps."""
    counts: dict[str, int]
    """Number of selected clients by what happened: `unreachable`, `stragglers`, and with faults
    `dropouts`, `late` (stopped at the deadline) and `surplus` (returned after enough others)."""

    def facts(self) -> dict[str, np.ndarray]:
        """The facts of each client, as `Cohort` holds them."""
        named = {LOCAL_EPOCHS: self.epochs, STEP_LIMIT: self.steps}
        return {name: values for name, values in named.items() if values is not None}


def draw_participants(
    key: jax.Array,
    present: Attendance,
    local_steps: np.ndarray,
    local_epochs: int,
    cohort_size: int,
    faults: Faults,
) -> Participants:
    """Draws which clients return in time, and how much of their work they have done.

    Args:
      key: key of the round, as for `cohort.attend`.
      present: the selected clients that take part.
      local_steps: [K] local steps per epoch of every client of the population.
      local_epochs: E.
      cohort_size: number of results that the server uses, those that return first.
      faults: the faults to simulate.
    """
    counts = {"unreachable": present.unreachable, "stragglers": present.stragglers}
    if not faults.any:
        return Participants(present.ids, present.epochs, None, counts)
    ids = present.ids
    epochs = local_epochs if present.epochs is None else present.epochs
    whole = local_steps[ids] * epochs
    rng = host_rng(jax.random.fold_in(key, 2))
    breaks, part, tie = rng.random_sample((3, len(ids)))
    speed = np.exp(faults.speed_sigma * rng.standard_normal(len(ids)))
    broken = (breaks < faults.dropout_share) & (whole > 0)
    made = np.where(broken, np.floor(part * whole), whole)
    due = np.floor(faults.deadline_steps * speed) if faults.deadline_steps else np.inf
    late = made > due
    broken &= ~late  # the deadline came before the dropout
    made = np.minimum(made, due).astype(np.int32)
    back = (made > 0) | (whole == 0)
    for absent, policy in ((broken, faults.dropouts), (late, faults.late)):
        back &= ~absent | (policy == "keep")
    arrival = np.where(late, float(faults.deadline_steps), made / speed)
    order = np.lexsort((tie, arrival))
    first = np.sort(order[back[order]][:cohort_size])
    counts |= {"dropouts": int(broken.sum()), "late": int(late.sum())}
    counts["surplus"] = int(back.sum()) - len(first)
    if not faults.partial:
        unequal = None if present.epochs is None else present.epochs[first]
        return Participants(ids[first], unequal, None, counts)
    begun = -(-made // np.maximum(local_steps[ids], 1))
    return Participants(ids[first], begun[first].astype(np.int32), made[first], counts)
