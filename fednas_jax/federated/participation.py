"""Which clients take part in which round of a run, and with how many local steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated.cohort import Cohort
from fednas_jax.federated.evaluation import Score
from fednas_jax.federated.faults import Faults, Participants, draw_participants

TRIES = 10
"""How often a round is tried if too few clients return updates; then it is skipped."""

_COUNTS = {
    "unreachable": "unreachable_share",
    "stragglers": "stragglers_share",
    "dropouts": "faults.dropout_share",
    "late": "faults.deadline_steps",
    "surplus": "faults.extra_share",
}
"""Count recorded for each round -> the config field that, if it is not 0, makes it recorded."""


class Participation:
    """Draws the participating clients of each round, from the run's key alone."""

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
          config: the resolved config.
          local_steps: [K] local steps an epoch of every client of the population.
          key: the key of the run's rounds.
          ranks: how many ranks the clients are divided among.
          groups: [K] group of every client, if all clients of a chunk have to be of one group.
        """
        self._config, self._local_steps, self._key = config, local_steps, key
        self._ranks, self.groups = ranks, groups
        options = config["faults"]
        self._faults = Faults(**{name: options[name] for name in Faults._fields})
        self.size = cohorts.size(
            len(local_steps), config["clients_per_round"], config["clients_fraction"]
        )
        """The largest number of clients whose updates count in a round."""
        self.least = options["min_clients"]
        """Rounds with updates of fewer clients are discarded."""
        self.tries = TRIES if options["too_few"] == "repeat" else 1
        self.leaves_out = options["not_finite"] == "leave_out"
        self._shares = [name for name, field in _COUNTS.items() if _field(config, field)]

    def key(self, number: int, attempt: int = 0) -> jax.Array:
        """The key of a round, or of a repetition of it (`attempt` > 0)."""
        key = jax.random.fold_in(self._key, number)
        # 0 and 1 are folded in for who takes part and for what the clients draw.
        return jax.random.fold_in(key, 1 + attempt) if attempt else key

    def participants(self, number: int, attempt: int = 0) -> Participants:
        """The clients whose updates count in a round."""
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
        """The participants of a skipped round: no clients, with the counts of `absent`."""
        none = [None if values is None else values[:0] for values in absent[:3]]
        return absent._replace(ids=absent.ids[:0], epochs=none[1], steps=none[2])

    def everyone(self) -> Participants:
        """The clients of a round without faults, with the arrays that rounds with faults need.

        With several ranks, these are the clients of rank 0.
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
        """The clients of a round in chunks; each rank has a place for every possible client."""
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
        """How many held-out examples of each client count in the round's scores.

        If updates that are not finite are discarded (`leaves_out`), the examples of a client whose
        score is not finite count 0. If no score is finite, the network is at fault, and all
        examples count.

        Args:
          held_out: scores of each client; empty in a round without scores of clients.
          sizes: how many examples each client holds out.
        """
        if not held_out:
            return []
        finite = [bool(np.isfinite(score).all()) for score in held_out]
        if not self.leaves_out or not any(finite):
            return list(sizes)
        return [size if good else 0 for size, good in zip(sizes, finite, strict=True)]

    def row(self, present: Participants, tries: int, not_finite: list[int]) -> dict[str, Any]:
        """Columns of a round's row: how many clients took part, and how many did not.

        A column is left out if the config makes it the same in all rounds.

        Args:
          present: the clients that the server waited for.
          tries: how often the round was tried; 0 if it was skipped after the last try.
          not_finite: ids of the clients whose updates were discarded.
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
        """The local steps of each rank, if there are several ranks."""
        if self._ranks == 1:
            return {}
        cohort, epochs = self.cohort(present, 0, 1), self._config["local_epochs"]
        parts = [cohort.of_rank(rank, self._ranks) for rank in range(self._ranks)]
        return {"local_steps_of_ranks": [p.local_steps(self._local_steps, epochs) for p in parts]}


def _field(config: Mapping[str, Any], name: str) -> Any:
    section, _, leaf = name.rpartition(".")
    return (config[section] if section else config).get(leaf)
