"""Who takes part in which round of a run, and with which key: of the seed and the config alone."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated.clients import Clients
from fednas_jax.report.rows import Row

_ABSENT = ("unreachable", "stragglers")


class Turnout:
    """The rounds' clients and keys. A round's are the same whenever it is asked for."""

    def __init__(
        self, config: Mapping[str, Any], clients: Clients, key: jax.Array, ranks: int = 1
    ) -> None:
        """Args: config, resolved; clients, the population; key, of the run; ranks, how many."""
        self._config, self._key, self._ranks = config, key, ranks
        self._local_steps = clients.local_steps

    @property
    def size(self) -> int:
        """Clients drawn for a round."""
        asked = self._config["clients_per_round"], self._config["clients_fraction"]
        return cohorts.size(len(self._local_steps), *asked)

    def key(self, number: int) -> jax.Array:
        """Of what the clients of a round do."""
        return jax.random.fold_in(self._round_key(number), 1)

    def cohort(self, number: int, clients_per_chunk: int) -> cohorts.Cohort:
        """The clients of a round, in as many places on each rank as there may be clients."""
        present = self._attendance(number)
        return cohorts.in_chunks(
            present.ids,
            self._local_steps,
            clients_per_chunk,
            number,
            epochs=present.epochs,
            places=self.size,
            ranks=self._ranks,
        )

    def to_measure(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Of clients that rank 0 may have in a round: the ids, and the local epochs of each.

        The epochs are None where all make the same in every round: it is another program.
        """
        drawn = self._drawn(1)
        mine = drawn[cohorts.deal(drawn, self._local_steps[drawn], self._ranks)[0]]
        unequal = self._attendance(1).epochs is not None
        return mine, np.full(len(mine), self._config["local_epochs"]) if unequal else None

    def attended(self, number: int, clients: int) -> Row:
        """How many took part, and how many did not, where that is not always the same."""
        absent = [name for name in _ABSENT if self._config.get(f"{name}_share")]
        if not absent:
            return {}
        present = self._attendance(number)
        return {"clients": clients, **{name: getattr(present, name) for name in absent}}

    def division(self, cohort: cohorts.Cohort) -> Row:
        """The local steps of each rank in a round, where there are several."""
        if self._ranks == 1:
            return {}
        epochs = self._config["local_epochs"]
        parts = [cohort.of_rank(rank, self._ranks) for rank in range(self._ranks)]
        return {"local_steps_of_ranks": [p.local_steps(self._local_steps, epochs) for p in parts]}

    def _drawn(self, number: int) -> np.ndarray:
        """The ids of who is asked to take part in a round."""
        return cohorts.sample(self._cohort_key(number), len(self._local_steps), self.size)

    def _attendance(self, number: int) -> cohorts.Attendance:
        """Who of these does."""
        config = self._config
        return cohorts.attend(
            self._cohort_key(number),
            self._drawn(number),
            config["local_epochs"],
            unreachable_share=config["unreachable_share"],
            stragglers_share=config.get("stragglers_share", 0.0),
            stragglers=config.get("stragglers", "keep"),
        )

    def _cohort_key(self, number: int) -> jax.Array:
        return jax.random.fold_in(self._round_key(number), 0)

    def _round_key(self, number: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self._key, 1), number)
