"""The process that runs the PyTorch supernet and answers `harness.Peer`; see `REQUESTS`.

    python -m benchmarks.pytorch.serve --channels 8 --layers 3 --side 8 --batch 16

It draws a supernet and batches by seed; requests with files bring their own.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.pytorch import weights
from benchmarks.pytorch.local_step import Batch, LocalSearch, Options
from benchmarks.pytorch.supernet import Supernet


class Session:
    """A supernet of one size, and what is asked of it."""

    def __init__(self, arguments: argparse.Namespace):
        torch.manual_seed(0)
        self.layers = arguments.layers
        self.options: dict[str, Any] = {
            "device": arguments.device,
            "dtype": getattr(torch, arguments.dtype),
        }
        self.supernet = Supernet(arguments.classes, arguments.channels, arguments.layers)
        self.supernet.to(**self.options)
        shape = (arguments.batch, 3, arguments.side, arguments.side)
        labels = torch.arange(arguments.batch, device=arguments.device) % arguments.classes
        self.batches: list[Batch] = [(torch.randn(shape, **self.options), labels) for _ in range(2)]
        self.clients: dict[str, LocalSearch] = {}

    def facts(self) -> dict[str, Any]:
        """For the first line."""
        return {
            "ready": True,
            "parameters": self.supernet.count_weights(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }

    def _wait(self) -> None:
        if self.options["device"] != "cpu":
            torch.cuda.synchronize()

    def steps(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time of local steps of one client that goes on from request to request."""
        order = request.get("order", "alpha_first")
        if order not in self.clients:
            self.clients[order] = LocalSearch(self.supernet, Options(order))
        client = self.clients[order]
        begin = time.perf_counter()
        for _ in range(request["steps"]):
            client.step(*self.batches)
        self._wait()
        return {"seconds": time.perf_counter() - begin}

    def round(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time of a round: clients one after another, from what the server holds, then averaged."""
        server = {name: x.detach().clone() for name, x in self.supernet.state_dict().items()}
        begin = time.perf_counter()
        sums = {name: torch.zeros_like(x) for name, x in server.items()}
        for _ in range(request["clients"]):
            self.supernet.load_state_dict(server)
            client = LocalSearch(self.supernet, Options())
            for _ in range(request["steps"]):
                client.step(*self.batches)
            for name, x in self.supernet.state_dict().items():
                sums[name] += x
        for name in sums:
            sums[name] = sums[name] / request["clients"]
        self.supernet.load_state_dict(sums)
        self._wait()
        return {"seconds": time.perf_counter() - begin}

    def gradients(self, request: dict[str, Any]) -> dict[str, Any]:
        """Writes logits, loss, gradients and moments of one pass over the file's train batch."""
        leaves = self._load(request["inputs"])
        images, labels = self._batch(leaves, "train", 0)
        self.supernet.train()
        logits = self.supernet(images)
        loss = F.cross_entropy(logits, labels)
        named = dict(self.supernet.named_parameters())
        found = torch.autograd.grad(loss, list(named.values()))
        gradients = dict(zip(named, (g.cpu().numpy() for g in found), strict=True))
        out: dict[str, Any] = {
            "logits": logits.detach().cpu().numpy(),
            "loss": loss.detach().cpu().numpy(),
        }
        for name, x in weights.from_torch(gradients, self.layers).items():
            out[f"gradients/{name}"] = x
        np.savez(request["outputs"], **out, **self._leaves("batch_stats/"))
        return {}

    def search(self, request: dict[str, Any]) -> dict[str, Any]:
        """Writes weights, alphas and moments after a step on each pair of the file's batches."""
        leaves = self._load(request["inputs"])
        client = LocalSearch(self.supernet, Options(**request["options"]))
        losses = [
            client.step(self._batch(leaves, "train", i), self._batch(leaves, "valid", i))
            for i in range(len(leaves["train/images"]))
        ]
        np.savez(request["outputs"], losses=np.array(losses), **self._leaves(""))
        return {}

    def _load(self, path: str) -> dict[str, np.ndarray]:
        with np.load(path, allow_pickle=False) as file:
            leaves = dict(file)
        found = weights.to_torch(leaves, self.layers)
        counters = {
            name: torch.zeros_like(x)
            for name, x in self.supernet.state_dict().items()
            if name.endswith("num_batches_tracked")
        }
        tensors = {n: torch.tensor(np.ascontiguousarray(x)) for n, x in found.items()}
        self.supernet.load_state_dict(tensors | counters)
        return leaves

    def _batch(self, leaves: dict[str, np.ndarray], part: str, number: int) -> Batch:
        images = leaves[f"{part}/images"][number].transpose(0, 3, 1, 2)
        labels = torch.tensor(
            leaves[f"{part}/labels"][number], dtype=torch.long, device=self.options["device"]
        )
        return torch.tensor(np.ascontiguousarray(images), **self.options), labels

    def _leaves(self, prefix: str) -> dict[str, Any]:
        state = {name: x.cpu().numpy() for name, x in self.supernet.state_dict().items()}
        leaves = weights.from_torch(state, self.layers)
        return {name: x for name, x in leaves.items() if name.startswith(prefix)}


REQUESTS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "steps": Session.steps,
    "round": Session.round,
    "gradients": Session.gradients,
    "search": Session.search,
}
"""What {"do": NAME, ...} does."""


def main() -> None:
    """Answers until its input ends."""
    parser = argparse.ArgumentParser()
    for name, default in {
        "channels": 8,
        "layers": 3,
        "classes": 10,
        "side": 8,
        "batch": 16,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    session = Session(arguments)
    print(json.dumps(session.facts()), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(REQUESTS[request["do"]](session, request)), flush=True)


if __name__ == "__main__":
    main()
