"""FedNAS's train stage: the network of a genotype on CIFAR-10, 16 unlike clients as in Table 2.

    python -m fednas_jax.main --config=configs/cifar_hetero_train.py --workdir=runs/train
    python -m fednas_jax.main --config=configs/cifar_hetero_train.py \
        --config.genotype=runs/cifar_hetero/genotypes/best.json --workdir=runs/cifar_hetero_train

Without `genotype`, the one that the paper's authors published (FedNAS_V1: 337,626 weights). 500
rounds of 15 epochs, batch 64, C = 16, L = 8, SGD whose learning rate falls inside each round;
drop path ramped to 0.2, cutout. All that a client does not hold out trains; what clients hold out
chooses the best round. Meant for a GPU, not run to its end yet: 5.2 million local steps.

`:quick`: 20 rounds of one epoch of a network of C = 8, L = 5 on 0.08 of the images.

The images come from TensorFlow Datasets: from TFDS_DATA_DIR or --config.dataset.data_dir=DIR,
or downloaded.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick")
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
    if variant == "quick":
        config.partition.table_fraction = 0.08
        config.dataset.max_test_examples = 1000
        config.rounds = 20
        config.local_epochs = 1
        config.batch_size = 16
        config.network.init_channels = 8
        config.network.layers = 5
        # So few steps leave no time for what keeps a long training from learning by heart.
        config.optimizer.drop_path_rate = 0.0
        config.augment.cutout = 0
        config.optimizer.schedule = "across_rounds"
        config.optimizer.learning_rate = 0.1
    return config
