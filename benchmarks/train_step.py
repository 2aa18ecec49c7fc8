"""Cost of one training step of a derived network, ResNet-56 and DenseNet-201 beside eager PyTorch.

    python -m benchmarks.train_step [--quick] [--only CASE] [--json FILE] [--repeats N]

A step: forward and backward pass on 64 images of 32 x 32, clipping, weight decay, SGD with
momentum; ours several in one call, as in a round, the two in turns. Besides, cold compile times,
also of what is slow to compile: eight separable 5 x 5 convolutions in each cell, and DARTS's size.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.train_step")  # as the command line does

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from benchmarks import harness
from benchmarks.harness import Bar, Peer, Row, at_least, at_most
from fednas_jax import compilation, networks
from fednas_jax.errors import UserError, suggest
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype

NUM_CLASSES, SHAPE, BATCH_SIZE = 10, (32, 32, 3), 64
STEPS = 5
"""Of ours in one call."""
_PAIRS = tuple(("sep_conv_5x5", state) for state in (0, 1, 0, 2, 1, 3, 2, 4))
SLOWEST = Genotype(_PAIRS, (2, 3, 4, 5), _PAIRS, (2, 3, 4, 5))
"""The most taps, and five different sources."""


class Case(NamedTuple):
    """A network, and what is measured of it."""

    fields: dict[str, Any]
    genotype: Genotype | None = None
    runs: bool = True
    """Whether steps are timed, or the compiler alone."""
    ratio: Bar | None = None
    compile_seconds: Bar | None = None


def _derived(genotype: Genotype, channels: int, layers: int, **rest: Any) -> Case:
    fields = {"name": "genotype", "init_channels": channels, "layers": layers}
    return Case(fields, genotype, **rest)


def cases() -> dict[str, Case]:
    """All, by name."""
    found, soon, later = genotypes.load("FedNAS_V1"), at_most(60), at_most(300)
    return {
        "derived": _derived(found, 16, 8, ratio=at_least(2), compile_seconds=soon),
        "derived, slowest": _derived(SLOWEST, 16, 8, runs=False, compile_seconds=soon),
        "derived, DARTS's size": _derived(found, 36, 20, runs=False, compile_seconds=later),
        "resnet56": Case({"name": "resnet56"}, ratio=at_least(1)),
        "densenet201": Case({"name": "densenet201"}),
    }


class Training:
    """Our training steps of a network, several in one call, and how long they took to compile."""

    def __init__(self, network: nn.Module):
        images = jax.random.normal(jax.random.key(1), (BATCH_SIZE, *SHAPE))
        labels = jnp.arange(BATCH_SIZE) % NUM_CLASSES
        optimizer = optax.chain(
            optax.clip_by_global_norm(5.0),
            optax.add_decayed_weights(3e-4),
            optax.sgd(0.025, momentum=0.9),
        )

        def start(key: jax.Array) -> Any:
            variables = network.init(key, images[:1], train=False)
            params = variables.pop("params")
            return params, variables, optimizer.init(params)

        def loss(params: Any, others: Any) -> Any:
            variables = {"params": params, **others}
            logits, changed = network.apply(variables, images, train=True, mutable=[*others])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), changed

        def step(_: int, state: Any) -> Any:
            params, others, moments = state
            gradient, others = jax.grad(loss, has_aux=True)(params, others)
            updates, moments = optimizer.update(gradient, moments, params)
            return optax.apply_updates(params, updates), others, moments

        def steps(state: Any) -> Any:
            return lax.fori_loop(0, STEPS, step, state)

        self._state = compilation.jit_once(start)(jax.random.key(0))
        self.parameters = sum(x.size for x in jax.tree.leaves(self._state[0]))
        jitted = compilation.jit(steps, quick=True, donate_argnums=0)
        begin = time.perf_counter()
        lowered = jitted.lower(self._state)
        self.trace_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        self._compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - begin

    def temporary_bytes(self) -> int:
        """Memory beside weights and momenta."""
        analysis: Any = self._compiled.memory_analysis()
        return int(analysis.temp_size_in_bytes)

    def run(self) -> float:
        """Seconds a step."""
        begin = time.perf_counter()
        self._state = jax.block_until_ready(self._compiled(self._state))
        return (time.perf_counter() - begin) / STEPS


def measure(
    name: str, case: Case, python: Path | None, repeats: int, versions: dict[str, str]
) -> list[Row]:
    """Compiles a case and, where it runs, runs it beside PyTorch; tells `versions` whose."""
    training = Training(networks.build(case.fields, SHAPE, NUM_CLASSES, case.genotype))
    rows = [
        Row(f"{name}: trace", training.trace_seconds, "s"),
        Row(f"{name}: cold compile", training.compile_seconds, "s", case.compile_seconds),
        Row(f"{name}: temporary memory", training.temporary_bytes() / 1e6, "MB"),
    ]
    if not case.runs:
        return rows
    candidates: dict[str, Callable[[], object]] = {"step": training.run}
    with ExitStack() as stack:
        if python is not None:
            peer = stack.enter_context(Peer(python, "benchmarks.pytorch.train", _arguments(case)))
            if peer.facts["parameters"] != training.parameters:
                raise UserError(
                    f"{name}: {training.parameters} weights; {peer.facts['parameters']}, as "
                    "PyTorch's network has, are needed to compare"
                )
            versions["torch"] = peer.facts["torch"]
            candidates["PyTorch's step"] = lambda: peer.ask({"do": "steps", "steps": 1})["seconds"]
        seconds = harness.interleaved(candidates, repeats)
    medians = {which: harness.median(values) for which, values in seconds.items()}
    rows += [Row(f"{name}: {which}", value, "s") for which, value in medians.items()]
    if python is not None:
        ratio = medians["PyTorch's step"] / medians["step"]
        rows.append(Row(f"{name}: against PyTorch", ratio, "x", case.ratio))
    return rows


def _arguments(case: Case) -> list[str]:
    """For `benchmarks.pytorch.train`."""
    arguments = [f"--network={case.fields['name']}", f"--batch={BATCH_SIZE}"]
    if case.genotype is not None:
        arguments += [
            f"--genotype={json.dumps(genotypes.to_json(case.genotype))}",
            f"--channels={case.fields['init_channels']}",
            f"--layers={case.fields['layers']}",
        ]
    return arguments


def main() -> None:
    """Measures all cases; the derived network's step with --quick."""
    known = cases()
    parser = harness.parser(__doc__, peers=("torch",))
    parser.add_argument("--only", default="", help=f"one of {'; '.join(known)}")
    arguments = parser.parse_args()
    if arguments.only and arguments.only not in known:
        raise UserError(f"--only: no case {arguments.only!r}{suggest(arguments.only, known)}")
    chosen = [arguments.only] if arguments.only else ["derived"] if arguments.quick else [*known]
    python = harness.find_python(arguments, "torch")
    versions: dict[str, str] = {}
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        for name in chosen:
            rows += measure(name, known[name], python, arguments.repeats or 5, versions)
    harness.publish("train_step", rows, arguments, versions)


if __name__ == "__main__":
    harness.start(main)
