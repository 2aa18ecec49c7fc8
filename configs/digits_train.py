r"""The network of a genotype, trained on 8 x 8 digits by 8 unlike clients.

    python -m fednas_jax.main --config=configs/digits_train.py --workdir=runs/digits_train
    python -m fednas_jax.main --config=configs/digits_train.py \
        --config.genotype=runs/digits_quick/genotypes/best.json --workdir=runs/digits_train

Without `genotype` it trains the one that FedNAS's authors published. The whole command takes about
a minute on two idle cores when nothing is compiled yet (67 s of CPU time, half of it compiling),
and 0.9 GB. The test accuracy is 0.989 (chance: 0.10).

`:quick`: three rounds of it, to see that all works. The whole command takes less than a minute when
nothing is compiled yet (44 s of CPU time, most of it compiling), and reaches a test accuracy of
about 0.84.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick")
    config = default()
    config.algorithm = "fedavg"
    config.network.name = "genotype"
    config.network.init_channels = 8
    config.network.layers = 3
    config.dataset.name = "digits"
    config.partition.num_clients = 8
    config.partition.concentration = 1.0
    config.rounds = 3 if variant == "quick" else 20
    config.local_epochs = 3
    config.batch_size = 16
    config.optimizer.schedule = "across_rounds"
    config.optimizer.learning_rate = 0.1
    # A mirrored digit is another digit or none, and a cutout of 16 would hide the whole image.
    config.augment.flip = False
    config.augment.cutout = 0
    config.augment.crop_padding = 1
    return config
