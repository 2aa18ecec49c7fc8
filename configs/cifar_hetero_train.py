r"""FedNAS's train stage: the network of a genotype on CIFAR-10, 16 unlike clients as in Table 2.

    python -m fednas_jax.main --config=configs/cifar_hetero_train.py --workdir=runs/train
    python -m fednas_jax.main --config=configs/cifar_hetero_train.py \
        --config.genotype=runs/cifar_hetero/genotypes/best.json --workdir=runs/cifar_hetero_train

Without `genotype` it trains the one that the paper's authors published (FedNAS_V1: 337,626 weights,
and 435,466 of an auxiliary head that helps to train them). 500 rounds of 15 epochs, batch 64,
C = 16, L = 8, SGD whose learning rate falls inside each round, drop path that grows to 0.2, cutout,
and the auxiliary head's loss with a weight of 0.4. A client trains on all that it does not hold
out. What clients hold out chooses the best round. The BatchNorm statistics are measured again with
the averaged weights. It is meant for a GPU and has not been run to its end yet: 713 local steps an
epoch over all clients, 5.3 million in all.

`:quick`: 20 rounds of one epoch of a network of C = 8, L = 5 on 0.08 of the images. About eight
minutes on two cores shared with other programs, computed from 143 s for 6 rounds (docs/studies.md).
Its accuracy after 20 rounds was not measured; after 6 rounds it is 0.347.

`:paper`: as the authors' code trains. Nothing is held out (789 local steps an epoch), the BatchNorm
statistics are averaged like the weights, there is no auxiliary head, and the last round is the
result. It does not repeat two things of that code: a drop path of 0.5 from the first round on, and
leaving out half of each client's images. It has not been run to its end either.

The images are those of TensorFlow Datasets, read from TFDS_DATA_DIR or
--config.dataset.data_dir=DIR, or downloaded.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick", "paper")
    config = default()
    config.algorithm = "fedavg"
    config.network.name = "genotype"  # of config.genotype
    config.partition.name = "table"
    config.partition.table = "fednas_table2"
    config.rounds = 500
    config.local_epochs = 15
    config.batch_size = 64
    config.checkpoint_every = 5
    config.optimizer.schedule = "within_round"
    config.optimizer.drop_path_rate = 0.2
    config.network.auxiliary = variant == ""  # its loss weighs optimizer.auxiliary_weight, 0.4
    if variant == "paper":
        config.client.held_out_fraction = 0.0
        config.server.batch_stats = "averaged"
    if variant == "quick":
        config.partition.table_fraction = 0.08
        config.dataset.max_test_examples = 1000
        config.rounds = 20
        config.local_epochs = 1
        config.batch_size = 16
        config.network.init_channels = 8
        config.network.layers = 5
        # So few steps need no regularisation against overfitting, and do not suffice for a second
        # classifier with more weights than all the rest.
        config.optimizer.drop_path_rate = 0.0
        config.augment.cutout = 0
        config.optimizer.schedule = "across_rounds"
        config.optimizer.learning_rate = 0.1
    return config
