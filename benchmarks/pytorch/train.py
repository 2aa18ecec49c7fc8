"""The process that trains a network in PyTorch and answers `harness.Peer`.

    python -m benchmarks.pytorch.train --network resnet56 --batch 64

{"do": "steps", "steps": N} takes N steps and tells their seconds.
"""

import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.pytorch import networks


def build(arguments: argparse.Namespace) -> nn.Module:
    """The network that the arguments name."""
    if arguments.network == "genotype":
        genotype = json.loads(arguments.genotype)
        return networks.GenotypeNetwork(genotype, 10, arguments.channels, arguments.layers)
    if arguments.network == "densenet201":
        return networks.densenet201(10)
    return networks.resnet(10, (int(arguments.network.removeprefix("resnet")) - 2) // 6)


class Training:
    """A network, one batch of random images, and SGD as `benchmarks.train_step` has it."""

    def __init__(self, network: nn.Module, batch: int, side: int, device: str):
        self.network = network.to(device).train()
        self.images = torch.randn(batch, 3, side, side, device=device)
        self.labels = torch.arange(batch, device=device) % 10
        self.sgd = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    def steps(self, count: int) -> float:
        """Seconds of so many steps."""
        begin = time.perf_counter()
        for _ in range(count):
            self.sgd.zero_grad()
            F.cross_entropy(self.network(self.images), self.labels).backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.sgd.step()
        if self.images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begin


def main() -> None:
    """Answers until its input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", required=True)
    parser.add_argument("--genotype", default="", help="JSON")
    for name, default in (("channels", 16), ("layers", 8), ("batch", 64), ("side", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    network = build(arguments)
    training = Training(network, arguments.batch, arguments.side, arguments.device)
    facts = {
        "ready": True,
        "parameters": sum(p.numel() for p in network.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"seconds": training.steps(request["steps"])}), flush=True)


if __name__ == "__main__":
    main()
