r"""A template for your own data, dealt to clients by where it came from.

    python -m fednas_jax.main --config=configs/own_npz.py --workdir=runs/own \
        --config.dataset.name=my_data.npz

`my_data.npz` holds `images` [N, H, W, C] (uint8 or float), `labels` [N] and `client` [N] (the
hospital, factory or user that each image is from), both as numbers or as text:

    numpy.savez("my_data.npz", images=images, labels=labels, client=client)

dataset.name may also be a folder of images (CLIENT/CLASS/FILE), a CSV file that lists images, or
the folder of a Hugging Face data set: docs/data.md.

A fifth of the images is cut off as the test set, unless --config.dataset.test_path=my_test.npz
names one. Without a `client` column, --config.partition.name=hetero deals the images to 16 clients.
Copy this file and change what your data needs. Time and memory depend on the data; for scale, see
configs/cifar_hetero.py.

`:quick`: a small network, few rounds and at most 2000 images, to see that the data is read and
learnt from. A local step takes about half a second at 32 x 32 on two cores.
"""

import ml_collections

from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    check_variant(variant, "quick")
    config = default()
    config.dataset.name = "my_data.npz"
    config.dataset.test_path = ""
    config.dataset.test_fraction = 0.2
    config.partition.name = "natural"
    # A mirrored image must keep its class; the erased square must be well below the image's size.
    config.augment.flip = True
    config.augment.crop_padding = 4
    config.augment.cutout = 0
    if variant == "quick":
        config.dataset.max_train_examples = 2000
        config.dataset.max_test_examples = 500
        config.rounds = 5
        config.local_epochs = 2
        config.batch_size = 16
        config.supernet.init_channels = 8
        config.supernet.layers = 3
        config.optimizer.learning_rate = 0.1
        config.arch_optimizer.learning_rate = 3e-3
    return config
