"""FedAvg in pfl-research's simulation with PyTorch: the peer of benchmarks.pfl_cifar10.

    python -m benchmarks.peers.pfl_research --examples FILE

The recipe of pfl-research's own CIFAR-10 benchmark, written anew on its library: users drawn with
replacement, a user's examples in a fixed order, weights by user, the test set in one batch. The
recipe also scores a cohort's own examples before and after they train, every tenth round; that is
left out here, for no one else does it.

Requests: {"rounds": N} -> {"seconds": of all of them}; {"test": true} -> {"accuracy": share,
"seconds": of evaluating it as pfl's central evaluation does}.
"""

import argparse
import logging
import os
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.pytorch_ops import get_default_device
from pfl.metrics import Metrics, StringMetricName, Weighted
from pfl.model.pytorch import PyTorchModel
from torch.nn import functional

from benchmarks.peers import learning
from benchmarks.peers.protocol import Channel

MANY = 1_000_000
"""Rounds that no one will ask for: the asker says when it is enough."""


class SmallCNN(torch.nn.Module):
    """The network with the two methods that pfl asks of a model."""

    def __init__(self) -> None:
        """Draws the weights."""
        super().__init__()
        self.layers = learning.pfl_cnn()

    def forward(self, images: Any) -> Any:
        """Logits [B, 10] of images [B, 3, 32, 32]."""
        return self.layers(images)

    def loss(self, images: Any, labels: Any, eval: bool = False) -> Any:
        """Mean cross-entropy."""
        self.train(not eval)
        return functional.cross_entropy(self(images), labels)

    @torch.no_grad()
    def metrics(self, images: Any, labels: Any, eval: bool = True) -> dict[str, Any]:
        """Loss and accuracy, to be added up over batches and users."""
        self.train(not eval)
        logits = self(images)
        correct = (logits.argmax(1) == labels).sum().item()
        loss = functional.cross_entropy(logits, labels, reduction="sum").item()
        return {"loss": Weighted(loss, len(labels)), "accuracy": Weighted(correct, len(labels))}


class Gate(TrainingProcessCallback):
    """Lets pfl's loop run the requested number of rounds, and times them."""

    def __init__(self, channel: Channel, test: Dataset) -> None:
        """Waits for nothing yet."""
        self._channel, self._requests = channel, channel.requests()
        self._test, self._evaluation = test, NNEvalHyperParams(local_batch_size=len(test))
        self._left, self._begin = 0, 0.0

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """The first request."""
        if self._wait(model):
            sys.exit(0)
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Any, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Counts a round, and waits where none is left of those asked for."""
        self._left -= 1
        if self._left:
            return False, Metrics()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._channel.answer(seconds=time.perf_counter() - self._begin)
        return self._wait(model), Metrics()

    def _wait(self, model: PyTorchModel) -> bool:
        """Answers until rounds are asked for; True where nothing will be asked any more."""
        for request in self._requests:
            self._begin = time.perf_counter()
            if "rounds" in request:
                self._left = request["rounds"]
                return False
            metrics = model.evaluate(self._test, eval_params=self._evaluation)
            accuracy = metrics[StringMetricName("accuracy")].overall_value
            self._channel.answer(accuracy=accuracy, seconds=time.perf_counter() - self._begin)
        return True


def main() -> None:
    """Answers requests until the asker hangs up."""
    channel = Channel()
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", required=True)
    parser.add_argument("--clients-per-round", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    np.random.seed(0)
    read = learning.read_examples(options.examples)
    examples = learning.Examples(*(tensor.to(get_default_device()) for tensor in read))
    network = SmallCNN()
    channel.ready(
        parameters=learning.parameter_count(network),
        versions={"pfl": metadata.version("pfl"), "torch": torch.__version__},
        device=str(get_default_device()),
    )
    simulate(channel, network, examples, options)


def simulate(
    channel: Channel, network: SmallCNN, examples: learning.Examples, options: argparse.Namespace
) -> None:
    """Runs pfl's loop, controlled by a gate."""
    parts = {
        user: (examples.train_images[indices], examples.train_labels[indices])
        for user, indices in enumerate(examples.clients)
    }
    users = FederatedDataset.from_slices(parts, get_user_sampler("random", range(len(parts))))
    test = Dataset(raw_data=(examples.test_images, examples.test_labels))
    model = PyTorchModel(
        model=network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), 1.0),
    )
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=MANY,
            evaluation_frequency=MANY,
            train_cohort_size=options.clients_per_round,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(users, users, postprocessors=[WeightByUser()]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=options.learning_rate,
            local_batch_size=options.batch_size,
        ),
        callbacks=[Gate(channel, test)],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
