"""FedAvg in Flower's simulation, a worker of one core each: a peer of benchmarks.mnist_fedavg.

    python -m benchmarks.peers.flower --examples FILE --network cnn

The simulation lives from start to end of the process; each request runs Flower's own FedAvg
strategy for so many rounds. Requests: {"rounds": N, "data_loader": false} -> {"seconds": of all of
them, start-up aside}; {"test": true} -> {"accuracy": share, "seconds"}. With `data_loader` the
client is written as Flower's examples write theirs.
"""

import argparse
import logging
import os
import time
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import flwr
import ray
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers import flower_client, learning
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
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    examples = learning.read_examples(options.examples)
    server = ServerApp()
    server.main()(lambda grid, context: serve(grid, channel, examples, options))
    run_simulation(
        server_app=server,
        client_app=flower_client.app,
        num_supernodes=len(examples.clients),
        backend_config={
            "init_args": {"num_cpus": options.workers, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


def serve(
    grid: Any, channel: Channel, examples: learning.Examples, options: argparse.Namespace
) -> None:
    """Answers requests from inside the simulation."""
    torch.manual_seed(0)
    network = learning.NETWORKS[options.network]()
    arrays = dict.fromkeys((False, True), ArrayRecord(network.state_dict()))
    strategy = FedAvg(
        fraction_train=options.clients_per_round / len(examples.clients), fraction_evaluate=0.0
    )
    asked = {
        "examples": options.examples,
        "network": options.network,
        "batch-size": options.batch_size,
        "learning-rate": options.learning_rate,
    }
    channel.ready(
        parameters=learning.parameter_count(network),
        versions={"flwr": flwr.__version__, "ray": ray.__version__, "torch": torch.__version__},
    )
    for request in channel.requests():
        if "rounds" in request:
            with_loader = bool(request.get("data_loader"))
            config = ConfigRecord({**asked, "data-loader": with_loader})
            begin = time.perf_counter()
            result = strategy.start(
                grid, arrays[with_loader], request["rounds"], train_config=config
            )
            arrays[with_loader] = result.arrays
            channel.answer(seconds=time.perf_counter() - begin)
        else:
            network.load_state_dict(arrays[False].to_torch_state_dict())
            channel.answer(**learning.test(network, examples))


if __name__ == "__main__":
    main()
