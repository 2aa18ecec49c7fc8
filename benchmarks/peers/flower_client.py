"""The client of benchmarks.peers.flower; a module of its own, since Ray's workers import it."""

import functools
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.peers import learning

app = ClientApp()


@functools.cache
def _at_hand(path: str, network: str) -> tuple[learning.Examples, Any]:
    """Examples and a network, once a worker."""
    torch.set_num_threads(1)  # one core a worker, as Flower grants it
    return learning.read_examples(path), learning.NETWORKS[network]()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One local epoch of the client that this node stands for."""
    config = message.content["config"]
    examples, network = _at_hand(config["examples"], config["network"])
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    indices = examples.clients[context.node_config["partition-id"]]
    images, labels = examples.train_images[indices], examples.train_labels[indices]
    if config["data-loader"]:  # and a network made anew, as in Flower's examples
        made = learning.NETWORKS[config["network"]]()
        made.load_state_dict(network.state_dict())
        network, train = made, learning.train_by_loader
    else:
        train = learning.train_locally
    train(network, images, labels, config["batch-size"], config["learning-rate"])
    content = RecordDict(
        {
            "arrays": ArrayRecord(network.state_dict()),
            "metrics": MetricRecord({"num-examples": len(labels)}),
        }
    )
    return Message(content=content, reply_to=message)
