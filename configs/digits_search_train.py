"""Search, then train, on 8 x 8 digits in one command: no network, no GPU.

    python -m fednas_jax.main --config=configs/digits_search_train.py --workdir=runs/digits

It runs configs/digits_quick.py in runs/digits/search, then configs/digits_train.py in
runs/digits/train. The whole command takes about four minutes on two cores shared with other
programs when nothing is compiled yet, and 1.5 GB. The test accuracy is 0.981 (chance: 0.10).

`:quick`: the `:quick` of both. The whole command takes one to two minutes when nothing is compiled
yet (132 s of CPU time, most of it compiling), and reaches a test accuracy of about 0.91.
"""

from pathlib import Path

import ml_collections

from fednas_jax.fields import config_file


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config_file.check_variant(variant, "quick")

    def beside(name: str) -> ml_collections.ConfigDict:
        spec = str(Path(__file__).with_name(name))
        return config_file.load(f"{spec}:{variant}" if variant else spec)

    config = beside("digits_quick.py")
    config.then_train = beside("digits_train.py")
    return config
