"""Cost of a training step of a derived network, ResNet-56 and DenseNet-201, against eager PyTorch.

    python -m benchmarks.train_step [--quick] [--only CASE] [--json FILE] [--repeats N]

A step is a forward and backward pass on 64 images of 32 x 32, clipping, weight decay, and SGD with
momentum. Ours is the client_update of FedAvg, several steps in one call, compiled as in a round; it
also augments the images. The two take turns. The step of the train stage is that of the derived
network with drop path and auxiliary head, which PyTorch's network does not have. Cold compile
times, including tracing, are also measured for networks that are slow to compile: eight separable 5
x 5 convolutions in each cell, and the size of DARTS.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.train_step")  # as the command line does

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.harness import Bar, Peer, Row, at_least, at_most
from fednas_jax.algorithms.fedavg import algorithm as fedavg
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation
from fednas_jax.data.task import Task
from fednas_jax.federated.algorithm import ChunkFacts
from fednas_jax.federated.clients import Clients, Examples, build, divide
from fednas_jax.federated.rate_schedules import LearningRate, Ramp
from fednas_jax.networks import registry as networks
from fednas_jax.runtime import compilation
from fednas_jax.runtime.errors import UserError, suggest
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts.genotype import Genotype

NUM_CLASSES, SHAPE, BATCH_SIZE = 10, (32, 32, 3), 64
STEPS = 5
"""Of ours in one call."""
ROUNDS = 500
_PAIRS = tuple(("sep_conv_5x5", state) for state in (0, 1, 0, 2, 1, 3, 2, 4))
SLOWEST = Genotype(_PAIRS, (2, 3, 4, 5), _PAIRS, (2, 3, 4, 5))
"""The most taps, and five different sources."""


class Case(NamedTuple):
    """A network, and what is measured of it."""

    fields: dict[str, Any]
    """As `networks.build` takes them."""
    runs: bool = True
    """Whether steps are timed, or the compiler alone."""
    ratio: Bar | None = None
    compile_seconds: Bar | None = None
    """Of tracing and compiling together: what one waits for."""
    drop_path: bool = False

    @property
    def is_bare(self) -> bool:
        """Whether PyTorch has the same network: without drop path and auxiliary head."""
        return not (self.drop_path or self.fields.get("auxiliary"))


def _derived(
    genotype: Genotype, channels: int, layers: int, auxiliary: bool = False, **rest: Any
) -> Case:
    fields: dict[str, Any] = {"name": "genotype", "init_channels": channels, "layers": layers}
    fields["genotype"] = genotypes.to_json(genotype)
    return Case(fields | ({"auxiliary": True} if auxiliary else {}), **rest)


def cases() -> dict[str, Case]:
    """All, by name."""
    found, soon, later = genotypes.load("FedNAS_V1"), at_most(60), at_most(300)
    return {
        "derived": _derived(found, 16, 8, ratio=at_least(2), compile_seconds=soon),
        "derived, drop path and auxiliary head": _derived(
            found, 16, 8, auxiliary=True, drop_path=True, compile_seconds=soon
        ),
        "derived, slowest": _derived(SLOWEST, 16, 8, runs=False, compile_seconds=soon),
        "derived, DARTS's size": _derived(found, 36, 20, runs=False, compile_seconds=later),
        "resnet56": Case({"name": "resnet56"}, ratio=at_least(1)),
        "densenet201": Case({"name": "densenet201"}),
    }


class Training:
    """A client's local steps as a round runs them, and how long their program took to compile."""

    def __init__(self, case: Case):
        network = networks.build(case.fields, SHAPE, NUM_CLASSES)
        algorithm = fedavg.build(network, _task(), _options(case))
        state = compilation.jit_once(algorithm.init)(jax.random.key(0))
        self.parameters = sum(x.size for x in jax.tree.leaves(state.params))
        # The last round, in which the drop path has grown.
        facts = ChunkFacts(jnp.int32(STEPS), jnp.int32(ROUNDS))
        client, examples = _one_client()
        self._arguments = jax.device_put((state, client, facts, examples, jax.random.key(1)))
        # As the round engine compiles it.
        quick = networks.is_large(case.fields["name"])
        jitted = compilation.jit(algorithm.phases[0].client_update, quick=quick)
        begin = time.perf_counter()
        lowered = jitted.lower(*self._arguments)
        self.trace_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        self._compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - begin

    def temporary_bytes(self) -> int:
        """Memory beside the server's state, the examples, and what the client sends."""
        analysis: Any = self._compiled.memory_analysis()
        return int(analysis.temp_size_in_bytes)

    def run(self) -> float:
        """Seconds a step."""
        begin = time.perf_counter()
        jax.block_until_ready(self._compiled(*self._arguments))
        return (time.perf_counter() - begin) / STEPS


def _task() -> Task:
    augmentation = Augmentation(4, True, SHAPE[0] // 2, (0.5,) * 3, (0.25,) * 3)
    return vision.task(jax.ShapeDtypeStruct(SHAPE, jnp.uint8), augmentation)


def _options(case: Case) -> fedavg.FedAvgOptions:
    """Those of configs/cifar_hetero_train.py, for one epoch."""
    return fedavg.FedAvgOptions(
        local_epochs=1,
        batch_size=BATCH_SIZE,
        learning_rate=LearningRate(0.025),
        momentum=0.9,
        weight_decay=3e-4,
        clip_norm=5.0,
        auxiliary_weight=0.4,
        drop_path=Ramp(0.2, ROUNDS) if case.drop_path else None,
    )


def _one_client() -> tuple[Clients, Examples]:
    """A client whose random images make `STEPS` steps."""
    rng, count = np.random.RandomState(0), STEPS * BATCH_SIZE
    images = rng.randint(0, 256, (count, *SHAPE), np.uint8)
    labels = (np.arange(count) % NUM_CLASSES).astype(np.int32)
    clients = build([divide(np.arange(count), 0.0, 1.0)], BATCH_SIZE, last_batch=True)
    return jax.tree.map(lambda x: x[0], clients), Examples(images, labels)


def measure(
    name: str, case: Case, python: Path | None, repeats: int, versions: dict[str, str]
) -> list[Row]:
    """Compiles a case and, where it runs, runs it beside PyTorch; tells `versions` whose."""
    training = Training(case)
    waiting = training.trace_seconds + training.compile_seconds
    rows = [
        Row(f"{name}: trace", training.trace_seconds, "s"),
        Row(f"{name}: cold compile", training.compile_seconds, "s"),
        Row(f"{name}: trace and cold compile", waiting, "s", case.compile_seconds),
        Row(f"{name}: temporary memory", training.temporary_bytes() / 1e6, "MB"),
    ]
    if not case.runs:
        return rows
    python = python if case.is_bare else None
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
    if "genotype" in case.fields:
        arguments += [
            f"--genotype={json.dumps(case.fields['genotype'])}",
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
