"""The CIFAR-10 benchmark of pfl-research (Granqvist et al., 2024): FedAvg with very many clients.

    python -m fednas_jax.main --config=configs/pfl_cifar10.py --workdir=runs/pfl_cifar10

1,000 like users of 50 images, 50 of them a round, one local epoch in batches of 10, learning rate
0.1, the benchmark's small CNN of 1,626,442 parameters, 1,500 rounds. The test set is scored every
10 rounds, and chooses nothing.

Three differences from theirs do not change the task. A round's users are drawn without replacement
(theirs with). A user's images are in a new order each time (theirs always in the same). Images are
seen as they are (theirs are laid out by a script that mixes up the color planes).

The local steps of a round take 2.5 s on two busy cores of a server CPU, so that the 1,500 rounds
take more than an hour. The benchmark has not been run to its end yet.

`:quick`: 20 rounds, 2,000 test images. The whole command takes one to two minutes on two idle cores
when nothing is compiled yet (120 s of CPU time), and 1.2 GB. It reaches 0.362 (chance: 0.10).

The images are those of TensorFlow Datasets, read from TFDS_DATA_DIR or
--config.dataset.data_dir=DIR, or downloaded.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick")
    config = default()
    config.algorithm = "fedavg"
    config.network.name = "pfl_cnn"
    config.partition.name = "homo"
    config.partition.num_clients = 1000
    config.client.held_out_fraction = 0.0
    config.clients_per_round = 50
    config.local_epochs = 1
    config.batch_size = 10
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "constant"
    config.optimizer.momentum = config.optimizer.weight_decay = config.optimizer.clip_norm = 0.0
    config.rounds = 1500
    config.test_every = 10
    config.checkpoint_every = 100
    config.augment.crop_padding = config.augment.cutout = 0
    config.augment.flip = False
    if variant == "quick":
        config.rounds = 20
        config.dataset.max_test_examples = 2000
    return config
