"""The paper's search with like clients: CIFAR-10 dealt evenly and at random to 16 of them.

    python -m fednas_jax.main --config=configs/cifar_homo.py --workdir=runs/cifar_homo

50 rounds of 5 local epochs, batch 64, C = 16, L = 8. A tenth of each client's images is held out
and selects the best round. Time and memory are those of configs/cifar_hetero.py. It is meant for a
GPU and has not been run to its end yet, so its accuracy is not known.

`:quick`: the same on a small part of the real images, for two cores. It uses 4,000 images to train
and 1,000 to test, and the other settings of cifar_hetero:quick, so it needs about as much time and
memory. Its accuracy was not measured.

`:paper`: the paper's protocol to the letter. Nothing is held out. Each step updates the weights,
then alpha (Algorithm 1). The BatchNorm statistics are averaged like the weights, and the last round
is the result. It has not been run to its end either.

The images are those of TensorFlow Datasets, read from TFDS_DATA_DIR or
--config.dataset.data_dir=DIR, or downloaded.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick", "paper")
    config = default()  # the paper's sizes and rates are the defaults
    config.partition.name = "homo"
    if variant == "":
        # On digits as good as all batches: 0.903 and 0.930, for 0.905 and 0.933, after 6 rounds.
        config.server.recalibration_fraction = 0.5
    if variant == "paper":
        config.client.held_out_fraction = 0.0
        config.search.order = "weights_first"
        config.server.batch_stats = "averaged"
    if variant == "quick":
        _make_quick(config)
    return config


def _make_quick(config: ml_collections.ConfigDict) -> None:
    config.dataset.max_train_examples = 4000
    config.dataset.max_test_examples = 1000
    config.rounds = 11
    config.local_epochs = 2
    config.batch_size = 16
    config.supernet.init_channels = 4
    config.supernet.layers = 3
    # So small a network does not learn images with cutout in so few steps.
    config.augment.cutout = 0
    # Few steps: both optimizers need larger steps than over the paper's 50 rounds.
    config.optimizer.learning_rate = 0.1
    config.arch_optimizer.learning_rate = 3e-3
