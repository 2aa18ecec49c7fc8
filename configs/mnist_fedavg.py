"""FedAvg on MNIST: the CNN of McMahan et al. (2017), 100 like clients of 600 images, 10 a round.

    python -m fednas_jax.main --config=configs/mnist_fedavg.py --workdir=runs/mnist_fedavg

C = 0.1, E = 1, B = 10, learning rate 0.1, 50 rounds; the test set is scored after each round, and
chooses nothing: no examples are held out, the last round is the result. On two busy cores of a
server CPU 5.6 s a round with its test, 0.64 GB; 0.981 after 10 rounds.

`:2nn`: the same with the paper's 2NN, two hidden layers of 200 units, 100 rounds.

`:quick`: five rounds of the 2NN with 2,000 test images: 6 s, of which 3 s compiling, and 0.932.

Other cells of the paper's tables are fields away: local_epochs (E), batch_size (B),
clients_per_round (C times 100), partition.name=shards for the unlike clients of two shards each.

The images come from TensorFlow Datasets: from TFDS_DATA_DIR or --config.dataset.data_dir=DIR,
or downloaded.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "2nn", "quick")
    config = default()
    config.algorithm = "fedavg"
    config.dataset.name = "mnist"
    config.partition.name = "homo"
    config.partition.num_clients = 100
    config.client.held_out_fraction = 0.0
    config.clients_per_round = 10
    config.local_epochs = 1
    config.batch_size = 10
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "constant"
    config.optimizer.momentum = config.optimizer.weight_decay = config.optimizer.clip_norm = 0.0
    config.rounds = 50
    config.checkpoint_every = 10
    config.augment.crop_padding = config.augment.cutout = 0
    config.augment.flip = False
    if variant in ("2nn", "quick"):
        config.network.name = "2nn"
        config.rounds = 100
        # Steps so short that starting them counts: a round's clients side by side are 1.3 times as
        # fast even on a CPU (clients_per_chunk=measured finds as much, after five compilations).
        config.clients_per_chunk = 10
    if variant == "quick":
        config.rounds = 5
        config.dataset.max_test_examples = 2000
    return config
