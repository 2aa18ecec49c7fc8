"""Who takes part in which round of a run, with how much of the work, and who does not."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated.cohort import Cohort
from fednas_jax.federated.evaluation import Score
from fednas_jax.federated.faults import Faults, Participants, draw_participants

TRIES = 10
"""Of a round that is repeated because of too few answers; then it is skipped."""

_COUNTS = {
    "unreachable": "unreachable_share",
    "stragglers": "stragglers_share",
    "dropouts": "faults.dropout_share",
    "late": "faults.deadline_steps",
    "surplus": "faults.extra_share",
}
"""What is recorded of a round where a field is not 0."""


class Participation:
    """Draws it for each round from the run's key, which decides alone."""

    def __init__(
        self,
        config: Mapping[str, Any],
        local_steps: np.ndarray,
        key: jax.Array,
        ranks: int = 1,
        groups: np.ndarray | None = None,
    ) -> None:
        """Draws nothing yet.

        Args:
          config: resolved.
          local_steps: [K] local steps an epoch of every client of the population.
          key: of the run's rounds.
          ranks: to how many the clients are dealt.
          groups: [K] of every client, where the clients of a chunk have to be of one group.
        """
        self._config, self._local_steps, self._key = config, local_steps, key
        self._ranks, self.groups = ranks, groups
        options = config["faults"]
        self._faults = Faults(**{name: options[name] for name in Faults._fields})
        self.size = cohorts.size(
            len(local_steps), config["clients_per_round"], config["clients_fraction"]
        )
        """Clients of a round whose answers count, at most."""
        self.least = options["min_clients"]
        """Clients without whose answers a round does not count."""
        self.tries = TRIES if options["too_few"] == "repeat" else 1
        self.leaves_out = options["not_finite"] == "leave_out"
        self._shares = [name for name, field in _COUNTS.items() if _field(config, field)]

    def key(self, number: int, attempt: int = 0) -> jax.Array:
        """Of a round, and of a repetition of it."""
        key = jax.random.fold_in(self._key, number)
        # 0 and 1 are folded in for who takes part and for what the clients draw.
        return jax.random.fold_in(key, 1 + attempt) if attempt else key

    def participants(self, number: int, attempt: int = 0) -> Participants:
        """Whose answers count in a round."""
        key, config = jax.random.fold_in(self.key(number, attempt), 0), self._config
        clients = len(self._local_steps)
        drawn = cohorts.sample(key, clients, self._faults.drawn(self.size, clients))
        present = cohorts.attend(
            key,
            drawn,
            config["local_epochs"],
            unreachable_share=config["unreachable_share"],
            stragglers_share=config.get("stragglers_share", 0.0),
            stragglers=config.get("stragglers", "keep"),
        )
        epochs = config["local_epochs"]
        return draw_participants(key, present, self._local_steps, epochs, self.size, self._faults)

    def nobody(self, absent: Participants) -> Participants:
        """As many answers as a round that is skipped has, with the same counts."""
        none = [None if values is None else values[:0] for values in absent[:3]]
        return absent._replace(ids=absent.ids[:0], epochs=none[1], steps=none[2])

    def everyone(self) -> Participants:
        """A round in which nothing goes wrong, run by the program of those in which it may.

        Of several ranks, the clients that rank 0 has in it.
        """
        key, clients = jax.random.fold_in(self.key(1), 0), len(self._local_steps)
        ids, drawn = cohorts.sample(key, clients, self.size), self.participants(1)
        ids = ids[np.sort(cohorts.deal(ids, self._local_steps[ids], self._ranks)[0])]
        epochs = np.full(len(ids), self._config["local_epochs"])
        return Participants(
            ids,
            None if drawn.epochs is None else epochs,
            None if drawn.steps is None else self._local_steps[ids] * epochs,
            {},
        )

    def cohort(self, present: Participants, number: int, clients_per_chunk: int) -> Cohort:
        """The clients of a round, in as many places on each rank as there may be clients."""
        return cohorts.in_chunks(
            present.ids,
            self._local_steps,
            clients_per_chunk,
            number,
            facts=present.facts(),
            places=self.size,
            ranks=self._ranks,
            groups=self.groups,
        )

    def counted(self, held_out: Sequence[Score], sizes: Sequence[int]) -> list[int]:
        """How many examples held out by each client count in the round's scores.

        Where clients that are not finite are left out, none of a client whose score is not, unless
        that is so of all: then it is the network.

        Args:
          held_out: scores of each client; empty when it was not their turn.
          sizes: how many examples each holds out.
        """
        if not held_out:
            return []
        finite = [bool(np.isfinite(score).all()) for score in held_out]
        if not self.leaves_out or not any(finite):
            return list(sizes)
        return [size if good else 0 for size, good in zip(sizes, finite, strict=True)]

    def row(self, present: Participants, tries: int, not_finite: list[int]) -> dict[str, Any]:
        """How many took part, and how many did not, where that is not always the same.

        Args:
          present: whose answers were waited for.
          tries: how often the round was begun; 0 if it was skipped after all of them.
          not_finite: ids of those whose answers were left out.
        """
        row: dict[str, Any] = {}
        if self._shares or self.leaves_out or self.least:
            row["clients"] = len(present.ids) - len(not_finite)
        row |= {name: present.counts[name] for name in self._shares}
        if self.leaves_out:
            row["not_finite"] = not_finite
        if self.least:
            row |= {"tries": tries or self.tries, "skipped": not tries}
        return row | self._division(present)

    def _division(self, present: Participants) -> dict[str, Any]:
        """The local steps of each rank, where there are several."""
        if self._ranks == 1:
            return {}
        cohort, epochs = self.cohort(present, 0, 1), self._config["local_epochs"]
        parts = [cohort.of_rank(rank, self._ranks) for rank in range(self._ranks)]
        return {"local_steps_of_ranks": [p.local_steps(self._local_steps, epochs) for p in parts]}


def _field(config: Mapping[str, Any], name: str) -> Any:
    section, _, leaf = name.rpartition(".")
    return (config[section] if section else config).get(leaf)
