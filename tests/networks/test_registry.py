"""The registry: every name builds, counts are those of the papers, bad input gets one line."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fednas_jax import config as schema
from fednas_jax.fields.common import NETWORKS
from fednas_jax.networks import registry as networks
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as genotypes
from tests.tiny import image_task

CIFAR, MNIST = (32, 32, 3), (28, 28, 1)


def make(shape: tuple[int, int, int] = CIFAR, **fields: Any) -> Any:
    config = schema.default()
    config.update_from_flattened_dict({"algorithm": "fedavg"} | fields)
    return networks.from_config(schema.resolve(config), image_task(shape), 10)


@pytest.mark.parametrize(
    ("shape", "fields", "parameters", "multiply_adds"),
    [
        (MNIST, {"network.name": "cnn"}, 1_663_370, 12_273_152),
        (MNIST, {"network.name": "cnn", "network.padding": "flower"}, 1_663_370, 9_524_352),
        (MNIST, {"network.name": "2nn"}, 199_210, 198_800),
        (CIFAR, {"network.name": "pfl_cnn"}, 1_626_442, 16_835_200),
        (CIFAR, {"network.name": "resnet20"}, 269_722, 40_551_040),
        (CIFAR, {"network.name": "resnet32"}, 464_154, 68_862_592),
        (CIFAR, {"network.name": "resnet56"}, 853_018, 125_485_696),
        # 442,368 of the stem, 27,000,832 + 2 * 29,884,416 of the stages, 2,560 of the classes.
        (CIFAR, {"network.name": "resnet56_fedml"}, 591_322, 87_214_592),
        (CIFAR, {"network.name": "densenet201"}, 18_112_138, None),
        (
            CIFAR,
            {"network.name": "densenet201", "network.normalization": "group"},
            18_112_138,
            None,
        ),
        (CIFAR, {"network.name": "densenet_small"}, 176_122, None),
        (CIFAR, {"network.name": "genotype", "genotype": "DARTS_V2"}, 246_106, None),
        (
            CIFAR,
            {
                "network.name": "genotype",
                "genotype": "DARTS_V2",
                "network.init_channels": 36,
                "network.layers": 20,
            },
            3_349_342,
            pytest.approx(528e6, rel=1e-3),  # as DARTS reports them
        ),
    ],
)
def test_counts(shape, fields, parameters, multiply_adds):
    network = make(shape, **fields)
    assert networks.parameter_count(network, shape) == parameters
    if multiply_adds is not None:
        assert networks.multiply_adds(network, shape) == multiply_adds


def test_densenet201_with_the_classes_of_imagenet():
    # torchvision: 4.29 G multiply-adds at 224 x 224.
    network = networks.build({"name": "densenet201"}, (224, 224, 3), 1000)
    assert networks.parameter_count(network, (224, 224, 3)) == 20_013_928
    assert round(networks.multiply_adds(network, (224, 224, 3)) / 1e7) == 429


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_gives_logits(name):
    network = make(**{"network.name": name})
    images = jax.ShapeDtypeStruct((2, *CIFAR), jnp.float32)
    logits = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0], images
    )
    assert logits.shape == (2, 10)


def test_the_schema_knows_every_network():
    (field,) = [field for field in schema.FIELDS if field.name == "network.name"]
    kinds = [name for name in networks._KINDS if name != "supernet"]
    assert field.check("supernet") != ""
    for name in kinds:
        assert field.check(name) == ""
    assert field.check("resnet65") == (
        f"one of {', '.join(kinds)}, or path/to/file.py:Name, is needed; did you mean 'resnet56'?"
    )


def test_a_genotypes_file_or_name(tmp_path):
    path = tmp_path / "mine.json"
    genotypes.save(path, genotypes.load("DARTS_V1"))
    network = make(**{"network.name": "genotype", "genotype": str(path)})
    assert network.genotype == genotypes.load("DARTS_V1")
    with pytest.raises(UserError, match=r"'FedNAS_V2' is neither .*; did you mean 'FedNAS_V1'\?$"):
        make(**{"network.name": "genotype", "genotype": "FedNAS_V2"})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("cnn", (30, 28, 1), "30 x 28; sides of at least 4 that 4 divides"),
        ("pfl_cnn", (4, 4, 1), "4 x 4; sides of at least 6 that 2 divides"),
        ("densenet201", (28, 32, 1), "28 x 32; sides of at least 32 are needed"),
        ("genotype", (7, 8, 1), "7 x 8; sides of at least 8 are needed"),
    ],
)
def test_images_of_a_size_that_a_network_is_not_for(name, shape, message):
    with pytest.raises(UserError, match=rf"^config\.network\.name: '{name}' is not .* {message}"):
        make(shape, **{"network.name": name})


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("network.padding", "flower", "2nn"),
        ("network.normalization", "group", "cnn"),
        ("network.layers", 20, "resnet56"),
        ("genotype", "DARTS_V1", "resnet56"),
    ],
)
def test_fields_that_a_network_does_not_read(field, value, name):
    with pytest.raises(UserError, match=rf"^config\.{field}: {value!r} is not used where .*{name}"):
        make(**{"network.name": name, field: value})


def test_a_name_that_no_network_has():
    with pytest.raises(UserError, match=r"'resnet5' is no network; did you mean 'resnet56'\?$"):
        networks.build({"name": "resnet5"}, CIFAR, 10)
