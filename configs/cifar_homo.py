"""The paper's search with like clients: CIFAR-10 dealt evenly and at random to 16 of them.

    python -m fednas_jax.main --config=configs/cifar_homo.py --workdir=runs/cifar_homo

50 rounds of 5 local epochs, batch 64, C = 16, L = 8; a tenth of each client's images is held
out and selects the best round. MEASURE(hours, machine); peak memory MEASURE(GB) with one client
at a time; test accuracy of the supernet MEASURE.

`:quick`: the same on a small part of the real images, for two cores: MEASURE(minutes),
MEASURE(GB). It cuts down the images, rounds, local epochs, batch, channels and layers; what is
left reaches a test accuracy of about MEASURE (chance: 0.10).

`:paper`: the paper's protocol to the letter. Nothing is held out, each step writes the weights,
then alpha (Algorithm 1), the BatchNorm statistics are averaged like the weights, and the last
round is the result. MEASURE(hours, machine).

The images come from TensorFlow Datasets: from TFDS_DATA_DIR or --config.dataset.data_dir=DIR,
or downloaded.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick", "paper")
    config = default()  # the paper's sizes and rates are the defaults
    config.partition.name = "homo"
    # At batch 64 a step would keep 5 GB of activations; on a GPU with more, false is faster.
    config.supernet.remat = True
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
    config.rounds = 12
    config.local_epochs = 2
    config.batch_size = 16
    config.supernet.init_channels = 4
    config.supernet.layers = 3
    config.supernet.remat = False
    # In so few steps so small a network does not come to terms with images cut out.
    config.augment.cutout = 0
    # Few steps: both optimizers have to go faster than over the paper's 50 rounds.
    config.optimizer.learning_rate = 0.1
    config.arch_optimizer.learning_rate = 3e-3
