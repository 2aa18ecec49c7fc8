"""A whole federated search in minutes: 8 x 8 digits, 8 unlike clients, no network, no GPU.

    python -m fednas_jax.main --config=configs/digits_quick.py --workdir=runs/digits_quick

The digits come with scikit-learn. The whole command takes about two minutes on two idle cores when
nothing is compiled yet (197 s of CPU time, half of it compiling), and 1.4 GB. The supernet's test
accuracy is 0.975 (chance: 0.10).

`:quick`: three rounds of it, to see that all works. The whole command takes a good minute when
nothing is compiled yet (102 s of CPU time, most of it compiling), and reaches a test accuracy of
about 0.82.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick")
    config = default()
    config.dataset.name = "digits"
    config.partition.num_clients = 8
    config.partition.concentration = 1.0
    config.rounds = 3 if variant == "quick" else 15
    config.local_epochs = 3
    config.batch_size = 16
    config.supernet.init_channels = 8
    config.supernet.layers = 3
    config.optimizer.learning_rate = 0.1
    config.arch_optimizer.learning_rate = 3e-3
    # A mirrored digit is another digit or none, and a cutout of 16 would hide the whole image.
    config.augment.flip = False
    config.augment.cutout = 0
    config.augment.crop_padding = 1
    return config
