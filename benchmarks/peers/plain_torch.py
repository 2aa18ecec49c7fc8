"""FedAvg as a plain PyTorch loop over the clients of a round: the peer of benchmarks.mnist_fedavg.

    python -m benchmarks.peers.plain_torch --examples FILE --network cnn

Requests: {"rounds": N} -> {"seconds": of all of them}; {"test": true} -> {"accuracy": share,
"seconds"}.
"""

import argparse
import os
import time
from typing import Any

import torch

from benchmarks.peers import learning
from benchmarks.peers.protocol import Channel


def main() -> None:
    """Answers requests until the asker hangs up."""
    channel = Channel()
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", required=True)
    parser.add_argument("--network", choices=sorted(learning.NETWORKS), required=True)
    parser.add_argument("--clients-per-round", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    examples = learning.read_examples(options.examples)
    network = learning.NETWORKS[options.network]()
    channel.ready(
        parameters=learning.parameter_count(network), versions={"torch": torch.__version__}
    )
    for request in channel.requests():
        if "rounds" in request:
            begin = time.perf_counter()
            for _ in range(request["rounds"]):
                one_round(network, examples, options)
            channel.answer(seconds=time.perf_counter() - begin)
        else:
            channel.answer(**learning.test(network, examples))


def one_round(network: Any, examples: learning.Examples, options: argparse.Namespace) -> None:
    """Trains the drawn clients one after another and leaves their weighted mean in the network."""
    parameters = list(network.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    sums = [torch.zeros_like(parameter) for parameter in before]
    weight = 0
    for client in torch.randperm(len(examples.clients))[: options.clients_per_round]:
        indices = examples.clients[client]
        with torch.no_grad():
            for parameter, start in zip(parameters, before, strict=True):
                parameter.copy_(start)
        images, labels = examples.train_images[indices], examples.train_labels[indices]
        learning.train_locally(network, images, labels, options.batch_size, options.learning_rate)
        with torch.no_grad():
            for total, parameter in zip(sums, parameters, strict=True):
                total.add_(parameter, alpha=len(indices))
        weight += len(indices)
    with torch.no_grad():
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.copy_(total / weight)


if __name__ == "__main__":
    main()
