"""The local step of FedNAS in PyTorch, in the three orders in which its parts are taken.

`alpha_first` is what the originals do: two passes for the gradients of alpha, a third one for those
of w. The authors' clipping of w's gradient never took effect; here it does, as in the package.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pytorch.supernet import Supernet

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and labels [B]."""
ORDERS = ("joint", "weights_first", "alpha_first")


class Options(NamedTuple):
    """Hyperparameters, by the names that the package gives them."""

    order: str = "alpha_first"
    learning_rate: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip_norm: float = 5.0
    clip_epsilon: float = 1e-6
    """Added to the norm, as `torch.nn.utils.clip_grad_norm_` does; the package adds nothing."""
    lambda_train: float = 1.0
    lambda_valid: float = 1.0
    arch_learning_rate: float = 3e-4
    arch_beta1: float = 0.5
    arch_beta2: float = 0.999
    arch_weight_decay: float = 1e-3


class LocalSearch:
    """A client that searches: a supernet and fresh optimisers."""

    def __init__(self, supernet: Supernet, options: Options):
        if options.order not in ORDERS:
            raise ValueError(f"order {options.order!r} is none of {', '.join(ORDERS)}")
        self.supernet = supernet.train()
        self.options = options
        self._weights = list(supernet.weights())
        self._alphas = list(supernet.alphas.values())
        self._sgd = torch.optim.SGD(
            self._weights,
            options.learning_rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
        self._adam = torch.optim.Adam(
            self._alphas,
            options.arch_learning_rate,
            betas=(options.arch_beta1, options.arch_beta2),
            weight_decay=options.arch_weight_decay,
        )

    def step(self, train: Batch, valid: Batch) -> tuple[Tensor, Tensor]:
        """One local step; returns the losses of the first pass over each batch."""
        if self.options.order == "joint":
            train_loss, of_both = self._pass(train, [*self._weights, *self._alphas])
            count = len(self._weights)
            valid_loss, of_valid = self._pass(valid, self._alphas)
            self._step_weights(of_both[:count])
            self._step_alphas(of_both[count:], of_valid)
            return train_loss, valid_loss
        if self.options.order == "weights_first":
            train_loss, of_weights = self._pass(train, self._weights)
            self._step_weights(of_weights)
            return train_loss, self._search(train, valid)[1]
        losses = self._search(train, valid)
        self._step_weights(self._pass(train, self._weights)[1])
        return losses

    def _search(self, train: Batch, valid: Batch) -> tuple[Tensor, Tensor]:
        train_loss, of_train = self._pass(train, self._alphas)
        valid_loss, of_valid = self._pass(valid, self._alphas)
        self._step_alphas(of_train, of_valid)
        return train_loss, valid_loss

    def _pass(self, batch: Batch, parameters: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        images, labels = batch
        loss = F.cross_entropy(self.supernet(images), labels)
        return loss.detach(), torch.autograd.grad(loss, parameters)

    def _step_alphas(self, of_train: Sequence[Tensor], of_valid: Sequence[Tensor]) -> None:
        options = self.options
        for alpha, train, valid in zip(self._alphas, of_train, of_valid, strict=True):
            alpha.grad = options.lambda_train * train + options.lambda_valid * valid
        self._adam.step()

    def _step_weights(self, gradients: Sequence[Tensor]) -> None:
        if self.options.clip_norm:
            norm = torch.nn.utils.get_total_norm(gradients)
            scale = self.options.clip_norm / (norm + self.options.clip_epsilon)
            torch._foreach_mul_(list(gradients), scale.clamp(max=1.0))
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        self._sgd.step()
