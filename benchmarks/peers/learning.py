"""What the peers that run PyTorch share: the examples, the networks, local training, the test."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils import data

Tensor = Any
Module = Any


class Examples(NamedTuple):
    """The data set and who has what, as tensors."""

    train_images: Tensor
    """[N, C, H, W] float32, normalised."""
    train_labels: Tensor
    """[N] int64."""
    test_images: Tensor
    test_labels: Tensor
    clients: Tensor
    """[K, n] int64: each client's indices into the train images."""


def read_examples(path: Path | str) -> Examples:
    """Reads what benchmarks/peer_data.py wrote."""
    with np.load(path, allow_pickle=False) as file:
        mean, std = file["mean"], file["std"]

        def images(name: str) -> Tensor:
            normalised = (file[name].astype(np.float32) / 255 - mean) / std
            return torch.from_numpy(normalised.astype(np.float32)).permute(0, 3, 1, 2).contiguous()

        def integers(name: str) -> Tensor:
            return torch.from_numpy(file[name].astype(np.int64))

        return Examples(
            images("train_images"),
            integers("train_labels"),
            images("test_images"),
            integers("test_labels"),
            integers("clients"),
        )


def mnist_cnn() -> Module:
    """The CNN of McMahan et al. (2017), convolutions padded to the same size: 1,663,370 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def mnist_2nn() -> Module:
    """The 2NN of McMahan et al. (2017): 199,210 weights."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, 10),
    )


def pfl_cnn() -> Module:
    """The small CNN of pfl-research's CIFAR-10 benchmark: 1,626,442 weights."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(12544, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)  # biases as PyTorch draws them
    return network


NETWORKS = {"cnn": mnist_cnn, "2nn": mnist_2nn, "pfl_cnn": pfl_cnn}


def parameter_count(network: Module) -> int:
    """Weights of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def train_locally(
    network: Module, images: Tensor, labels: Tensor, batch_size: int, learning_rate: float
) -> None:
    """One epoch of plain SGD over a client's examples, in a new order."""
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    network.train()
    for batch in torch.randperm(len(labels)).split(batch_size):
        optimizer.zero_grad()
        functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()


def train_by_loader(
    network: Module, images: Tensor, labels: Tensor, batch_size: int, learning_rate: float
) -> None:
    """`train_locally` as tutorials write it, by a data loader."""
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    network.train()
    for batch in data.DataLoader(data.TensorDataset(images, labels), batch_size, shuffle=True):
        optimizer.zero_grad()
        functional.cross_entropy(network(batch[0]), batch[1]).backward()
        optimizer.step()


@torch.no_grad()
def test(network: Module, examples: Examples) -> dict[str, float]:
    """Share of the test images that the network gets right, and how long that took to find out."""
    begin = time.perf_counter()
    network.eval()
    correct = 0
    pairs = zip(examples.test_images.split(1000), examples.test_labels.split(1000), strict=True)
    for images, labels in pairs:
        correct += int((network(images).argmax(1) == labels).sum())
    accuracy = correct / len(examples.test_labels)
    return {"accuracy": accuracy, "seconds": time.perf_counter() - begin}
