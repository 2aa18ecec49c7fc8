"""What goes wrong with the clients of a round, drawn before it: nothing is computed in vain.

A client may break off while it computes, may be too slow for a deadline, or may not be among the
first whose answers the server waits for (over-selection: Bonawitz et al., Towards Federated
Learning at Scale, MLSys 2019, arXiv:1902.01046, Section 2.2). Time is counted in local steps, of
which a client of speed 1 makes one in a unit of time.
"""

from typing import NamedTuple

import jax
import numpy as np

from fednas_jax.federated.cohort import LOCAL_EPOCHS, STEP_LIMIT, Attendance, host_rng


class Faults(NamedTuple):
    """What may go wrong, and what is done about it; see `fednas_jax.config` for each."""

    dropout_share: float = 0.0
    dropouts: str = "lose"
    deadline_steps: int = 0
    late: str = "drop"
    speed_sigma: float = 0.0
    extra_share: float = 0.0

    @property
    def any(self) -> bool:
        """Whether any is asked for."""
        return bool(self.dropout_share or self.deadline_steps or self.extra_share)

    @property
    def partial(self) -> bool:
        """Whether a client that has made only some of its local steps may count."""
        kept_dropouts = self.dropout_share and self.dropouts == "keep"
        return bool(kept_dropouts or (self.deadline_steps and self.late == "keep"))

    def drawn(self, wanted: int, num_clients: int) -> int:
        """How many clients are asked where `wanted` answers are: that many and the extra ones."""
        return min(num_clients, wanted + round(self.extra_share * wanted))


class Answers(NamedTuple):
    """Whose answers count in a round."""

    ids: np.ndarray
    """[n] int32, ascending."""
    epochs: np.ndarray | None
    """[n] int32: local epochs of each; None where all make the same."""
    steps: np.ndarray | None
    """[n] int32: local steps that each makes, over all its epochs; None where all make all."""
    counts: dict[str, int]
    """How many of those drawn did what: `unreachable`, `stragglers`, and where faults are asked
    for `dropouts` (broke off), `late` (cut off at the deadline), `surplus` (came back after
    enough others)."""

    def facts(self) -> dict[str, np.ndarray]:
        """Of each client, as a `Cohort` has them."""
        named = {LOCAL_EPOCHS: self.epochs, STEP_LIMIT: self.steps}
        return {name: values for name, values in named.items() if values is not None}


def answers(
    key: jax.Array,
    present: Attendance,
    local_steps: np.ndarray,
    local_epochs: int,
    wanted: int,
    faults: Faults,
) -> Answers:
    """Draws who comes back in time, and with how much of the work.

    Args:
      key: of the round, as for `cohort.attend`.
      present: who of those drawn takes part.
      local_steps: [K] local steps an epoch of every client of the population.
      local_epochs: E.
      wanted: of how many the server takes the answers, the first that come.
      faults: what may go wrong.
    """
    counts = {"unreachable": present.unreachable, "stragglers": present.stragglers}
    if not faults.any:
        return Answers(present.ids, present.epochs, None, counts)
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
    broken &= ~late  # who was cut off before it would have broken off
    made = np.minimum(made, due).astype(np.int32)
    back = (made > 0) | (whole == 0)
    for absent, kept in ((broken, faults.dropouts), (late, faults.late)):
        back &= ~absent | (kept == "keep")
    arrival = np.where(late, float(faults.deadline_steps), made / speed)
    order = np.lexsort((tie, arrival))
    first = np.sort(order[back[order]][:wanted])
    counts |= {"dropouts": int(broken.sum()), "late": int(late.sum())}
    counts["surplus"] = int(back.sum()) - len(first)
    if not faults.partial:
        unequal = None if present.epochs is None else present.epochs[first]
        return Answers(ids[first], unequal, None, counts)
    begun = -(-made // np.maximum(local_steps[ids], 1))
    return Answers(ids[first], begun[first].astype(np.int32), made[first], counts)
