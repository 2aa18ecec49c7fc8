"""Both stages of FedNAS in one command: a search on CIFAR-10, then the training of what it finds.

    python -m fednas_jax.main --config=configs/cifar_hetero_search_train.py --workdir=runs/both

It runs configs/cifar_hetero.py in runs/both/search, then configs/cifar_hetero_train.py in
runs/both/train. The same command resumes the stage that was interrupted. To set a field of the
second stage, write --config.then_train.rounds=100. Seed, dataset and partition are set for both.

`:quick`: the `:quick` of both. It takes about as long as these two together: under 20 minutes.

`:paper`: the `:paper` of both.
"""

from pathlib import Path

import ml_collections

from fednas_jax.fields import config_file


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config_file.check_variant(variant, "quick", "paper")

    def beside(name: str) -> ml_collections.ConfigDict:
        spec = str(Path(__file__).with_name(name))
        return config_file.load(f"{spec}:{variant}" if variant else spec)

    config = beside("cifar_hetero.py")
    config.then_train = beside("cifar_hetero_train.py")
    return config
