"""The loop over rounds, with evaluation, records and checkpoints.

An interrupted run that is resumed has the same bits as one that was not. With several ranks, all of
them run this. Only rank 0 reads and writes the workdir; the others receive what it reads and
decides.

All effects of a run, such as files and clocks, are called from here. Everything that computes is a
pure function of the server state, the data and a key.
"""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.room import Room
from fednas_jax.checkpoints.checkpoint import Restored
from fednas_jax.data import datasets
from fednas_jax.data import partition as partitions
from fednas_jax.experiment import (
    assembly,
    engine_choice,
    longer,
    omissions,
    provenance,
    resumption,
    shared_workdir,
    summary,
)
from fednas_jax.experiment import callbacks as callback_functions
from fednas_jax.experiment import workdir as folders
from fednas_jax.federated import finite
from fednas_jax.federated.algorithm import Algorithm, ServerState
from fednas_jax.federated.cohort import Cohort
from fednas_jax.federated.evaluation import Evaluator, Score, mean_score
from fednas_jax.federated.participation import Participation
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.federated.schedule import Service
from fednas_jax.report import pictures, rows, run_folder, run_record
from fednas_jax.report.findings import IN_CHECKPOINT
from fednas_jax.report.progress import Progress
from fednas_jax.report.records import Records
from fednas_jax.runtime import compilation, console, extras, layout, signals
from fednas_jax.runtime.costs import Costs
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import plain

EVALUATION_BATCH = 128
"""Examples evaluated at once: enough to keep a device busy, few enough for little memory."""

SECONDS_BETWEEN_PICTURES = 60

_CHECKPOINTS = layout.CHECKPOINTS_FOLDER


class Experiment:
    """One start of a run: from its first round, or the one after its checkpoint, to its last."""

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: Path,
        *,
        population: assembly.Population,
        algorithm: Algorithm,
        found: resumption.Found,
        costs: Costs,
        communicator: Communicator = LOCAL,
    ) -> None:
        """Builds all parts.

        Args:
          config: the resolved config.
          folder: the run's folder.
          population: all clients and examples.
          algorithm: as `assembly.prepare` returns it.
          found: what the folder holds, as of `resumption.look`.
          costs: the time measured since this start.
          communicator: joins the ranks.
        """
        self._costs, self._communicator = costs, communicator
        self._config, self._folder, self._population = config, folder, population
        recorded = found.recorded
        self._callbacks = callback_functions.Callbacks(config, folder, communicator)
        self._room: Room = registry.room(config["algorithm"])
        self._findings = self._room.findings(config, folder)
        self._rules = run_record.rules_of(recorded)
        self._key = jax.random.key(config["seed"])
        fingerprint = folders.fingerprint(population.dataset, population.partition.clients)
        if recorded:
            folders.check_same_data(folder, recorded, fingerprint)
        shared_workdir.check_same(communicator, "the images or their partition", fingerprint)
        self._held_out_sizes = [len(held_out) for held_out in population.held_out]
        init = compilation.jit_once(algorithm.init)
        self._state: ServerState = init(jax.random.fold_in(self._key, 0))
        self._progress: Progress | None = None
        rounds_key = jax.random.fold_in(self._key, 1)
        steps = population.clients.local_steps
        groups = assembly.groups(population, algorithm)
        self._participation = Participation(config, steps, rounds_key, communicator.size, groups)
        self._engine, timings = engine_choice.choose(
            config,
            algorithm,
            population,
            self._participation,
            self._state,
            recorded,
            self._say if self._shown() else lambda line: None,
            communicator,
        )
        self._evaluator = Evaluator(
            algorithm,
            population.examples,
            [*population.held_out, population.test],
            EVALUATION_BATCH,
            communicator,
        )
        self._model = assembly.model_json(config, population)
        self._checkpoints = shared_workdir.SharedCheckpoints(
            communicator, folder / _CHECKPOINTS, config["checkpoints_to_keep"], self._say
        )
        facts = self._facts(fingerprint, timings)
        restored = self._checkpoints.restore_latest(self._state)
        self._examples = provenance.to_keep(
            communicator,
            config,
            population.dataset,
            population.partition,
            restored and folder / _CHECKPOINTS / f"{restored.round:06d}",
        )
        done, so_far = (restored.round, restored.extra["rows"]) if restored else (0, [])
        longer.check_state(folder, found.length, done, so_far, self._scores())
        # All checks are done: only from here on is the folder changed.
        if communicator.rank == 0:
            resumption.begin(folder, found, facts, done)
        self._records = self._resume_from(restored)

    def _facts(self, fingerprint: str, timings: Mapping[str, float]) -> dict[str, Any]:
        """What run.json records of the run and of this start."""
        config, population = self._config, self._population
        return {
            "config": schema.to_json(config),
            "clients_per_chunk": self._engine.clients_per_chunk,
            **({"clients_per_chunk_seconds": timings} if timings else {}),
            "padding_share": self._cohort(1).padding_share(population.clients.local_steps),
            "data_sha256": fingerprint,
            "examples_sha256": datasets.examples_sha256(population.dataset),
            **resumption.inputs(config),
            "ranks": self._communicator.size,
            "held_out": omissions.selection(population.held_out)._asdict(),
            "remarks": list(population.remarks),
            "user_code": resumption.code_of_user(config),
            **self._rules,
        }

    def _scores(self) -> list[str]:
        """The scores in the row of a last round."""
        held_out, test = any(self._held_out_sizes), len(self._population.test)
        return ["held_out_accuracy"] * held_out + ["test_accuracy"] * (test > 0)

    def run(self) -> dict[str, Any]:
        """Runs all rounds that are left, then returns the summary.

        If it is interrupted, it writes a checkpoint of the last complete round.
        """
        done, rounds = rows.rounds_done(self._records.rows), self._config["rounds"]
        shown = self._shown()
        say = self._say if shown else lambda line: None
        if self._communicator.rank == 0:
            self._save_partition()
            if lacking := extras.left_out_of_run(self._config["report"]):
                self._say(lacking)
        with contextlib.closing(self._records), compilation.reported(say):
            self._progress = Progress(rounds, done, shown=shown)
            with contextlib.closing(self._progress):
                say(self._opening(done))
                if done < rounds:
                    self._compile(done + 1)
                if not self._records.rows and self._room.tests_at_first:
                    self._start()
                try:
                    self._rounds(done + 1)
                except KeyboardInterrupt:
                    self._keep()
                    raise
        return self._finish()

    def _rounds(self, first: int) -> None:
        """Runs the rounds from `first` on; each is recorded completely or not at all."""
        for number in range(first, self._config["rounds"] + 1):
            state, row = self._round(number)
            with signals.held():
                self._state = state
                self._record(row)
            self._callbacks.tell(row, state, self._keep)
            if self._progress:
                self._progress.finish_round(row)
            if number == first:  # not before: plots take a second to import
                self._draw_partition()
            self._records.draw(SECONDS_BETWEEN_PICTURES)

    def _keep(self) -> None:
        """Writes a checkpoint of the last complete round, if it has none."""
        done = rows.rounds_done(self._records.rows)
        if self._communicator.rank:
            return
        with signals.held():
            if done and done not in self._checkpoints.rounds():
                self._save(done)
                self._say(f"the checkpoint of round {done} is written")

    def _compile(self, number: int) -> None:
        """Compiles what a round needs first; another thread compiles what is needed later."""
        self._engine.prepare(
            self._state, self._cohort(number), lambda: self._evaluator.prepare(self._state)
        )

    def _cohort(self, number: int) -> Cohort:
        """The clients of the first try of a round."""
        participation = self._participation
        return participation.cohort(
            participation.participants(number), number, self._engine.clients_per_chunk
        )

    def _resume_from(self, restored: Restored | None) -> Records | shared_workdir.Unwritten:
        """Restores a checkpoint, if there is one, and the records up to its round."""
        so_far: list[rows.Row] = []
        if restored is not None:
            self._state = restored.state
            self._costs.go_on(restored.extra["costs"])
            so_far = restored.extra["rows"]
            source = f"{self._folder / _CHECKPOINTS}: {IN_CHECKPOINT}"
            self._findings.restore(restored.extra[IN_CHECKPOINT], source)
        self._state = self._communicator.broadcast(self._state)
        return shared_workdir.records(
            self._communicator,
            self._folder,
            self._config["report"],
            so_far,
            self._findings,
            self._state,
            self._rules["best_round_by"],
        )

    def _dealt(self) -> dict[str, Any]:
        """The arguments for the table and the picture of the partition."""
        partition, dataset = self._population.partition, self._population.dataset
        return {
            "partition": partition,
            "labels": dataset.train.labels,
            "class_names": dataset.class_names,
            "client_ids": partitions.ids(partition, dataset.train.client),
            "client_names": list(self._population.client_names()) or None,
        }

    def _save_partition(self) -> None:
        partition, examples = self._population.partition, self._population.dataset.train
        partitions.save(self._folder / layout.INDICES_FILE, partition, examples)
        run_folder.write_partition(self._folder, **self._dealt())

    def _draw_partition(self) -> None:
        if self._communicator.rank == 0 and extras.enabled(self._config["report"], "plots"):
            pictures.draw_partition(self._folder / layout.PLOTS_FOLDER, **self._dealt())

    def _start(self) -> None:
        """Round 0: tests the first weights. It cannot be the best round."""
        if not self._config["test_every"]:
            return
        start = time.monotonic()
        test = self._evaluator(self._state, start=len(self._held_out_sizes))[0]
        row = plain({**rows.before_training(test), "seconds": time.monotonic() - start})
        self._records.append(row, None)
        if self._progress:
            self._progress.finish_round(row)

    def _round(self, number: int) -> tuple[ServerState, rows.Row]:
        """Runs the phases of one round, then scores; returns the next state and a metrics row."""
        progress, start = self._progress, time.monotonic()
        service = Service(
            self._engine,
            self._participation,
            say=self._say if self._communicator.rank == 0 else lambda line: None,
            refuse=lambda fault: self._refuse(number, fault),
            progress=progress.within if progress else lambda done, of: None,
            client_names=self._population.client_names(),
        )
        state, clients, participation_row = self._room.schedule.round(service, self._state, number)
        updated = time.monotonic()
        held_out, test = self._evaluate(state, number)
        sizes = self._participation.counted(held_out, self._evaluator.counts[: len(held_out)])
        scored = test if len(self._population.test) else None
        self._refuse(
            number, finite.server_fault(state, held_out, sizes, scored, service.client_names)
        )
        shared_workdir.check_same_state(self._communicator, number, state)
        row = plain(
            {
                "round": number,
                **rows.means(clients),
                **participation_row,
                **rows.scores(held_out and [mean_score(held_out, sizes), *held_out], test),
                **rows.of_findings(self._findings.columns(state), clients),
                "seconds": time.monotonic() - start,
                "client_steps_per_second": clients["local_steps"].sum() / (updated - start),
                **self._engine.traffic(state),
            }
        )
        return state, row

    def _refuse(self, number: int, fault: str) -> None:
        """Stops a run whose numbers are not finite, before they reach a checkpoint."""
        fault = self._communicator.decide(lambda: fault)
        if not fault:
            return
        last = self._checkpoints.rounds()
        kept = f"the checkpoint of round {last[-1]} is intact" if last else "there is no checkpoint"
        raise UserError(
            f"round {number}: {fault}; a smaller config.optimizer.learning_rate is needed, "
            f"or data without outliers ({kept})"
        )

    def _evaluate(self, state: ServerState, number: int) -> tuple[list[Score], Score | None]:
        """Scores on each client's held-out part and on the test set, each if it is due this round.

        If no client holds anything out, there are no scores of clients: there may be very many.
        """
        clients = len(self._held_out_sizes)
        held_out = any(self._held_out_sizes) and self._due("held_out_every", number)
        test = self._due("test_every", number)
        scores = self._evaluator(state, clients + test, 0 if held_out else clients)
        return scores[:clients] if held_out else [], scores[-1] if test else None

    def _due(self, field: str, number: int) -> bool:
        """Whether a round is a multiple of the number in `field`, or the last round."""
        every = self._config[field]
        return number == self._config["rounds"] or (every > 0 and number % every == 0)

    def _record(self, row: rows.Row) -> None:
        """Records a round, and writes a checkpoint if one is due."""
        records, number = self._records, row["round"]
        records.append(row, self._state)
        # If nothing is held out, every round counts as the best so far, but none is chosen.
        chosen = row["held_out_accuracy"] is not None and records.is_best(number)
        if self._due("checkpoint_every", number) or chosen:
            self._save(number)

    def _save(self, number: int) -> None:
        """Writes the checkpoint of the round that was recorded last."""
        records = self._records
        extra = {**records.mark(), "costs": self._costs.so_far()}
        is_best = records.is_best(number)
        self._checkpoints.save(
            number,
            self._state,
            extra,
            is_best=is_best,
            model=self._model,
            examples=self._examples,
        )

    def _finish(self) -> dict[str, Any]:
        return self._communicator.decide(
            lambda: summary.summarize(
                self._folder, self._config, self._records, self._costs.so_far()
            )
        )

    def _opening(self, done: int) -> str:
        population = self._population
        sizes = population.clients.num_examples
        cohort = self._cohort(done + 1)
        padding = cohort.padding_share(population.clients.local_steps)
        chosen = omissions.opening(
            population.held_out,
            population.partition.clients,
            len(population.dataset.train.labels),
            self._config,
        )
        start = f"resuming after round {done}" if done else "from round 1"
        return (
            f"{len(sizes)} clients with {sizes.min()} to {sizes.max()} examples to learn from, "
            f"{self._engine.clients_per_chunk} at a time, {padding:.0%} of steps are padding; "
            f"{chosen}; {start}"
        )

    def _shown(self) -> bool:
        return self._config["report"]["progress"] and self._communicator.rank == 0

    def _say(self, line: str) -> None:
        if self._progress:
            self._progress.say(line)
        else:
            console.show(line)
