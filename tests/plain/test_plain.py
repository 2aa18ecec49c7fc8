"""The specification itself: against loops in numpy, PyTorch's logits, golden counts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.plain import supernet

# The same arithmetic in loops ---------------------------------------------------------------------


def loop_conv(x, weight, stride=1, dilation=1, groups=1):
    """Cross-correlation, one output at a time; x [B, C, H, W], weight [O, C / groups, k, k]."""
    batch, _, height, width = x.shape
    outputs, per_group, size, _ = weight.shape
    pad = dilation * (size - 1) // 2
    out = np.zeros((batch, outputs, -(-height // stride), -(-width // stride)))
    for b, o, i, j in np.ndindex(out.shape):
        first = (o // (outputs // groups)) * per_group
        for c, u, v in np.ndindex(per_group, size, size):
            row, column = i * stride - pad + u * dilation, j * stride - pad + v * dilation
            if 0 <= row < height and 0 <= column < width:
                out[b, o, i, j] += x[b, first + c, row, column] * weight[o, c, u, v]
    return out


def loop_pool(x, stride, reduce):
    """3 x 3 windows around every stride-th pixel; pixels outside the image do not take part."""
    batch, channels, height, width = x.shape
    out = np.zeros((batch, channels, -(-height // stride), -(-width // stride)))
    for b, c, i, j in np.ndindex(out.shape):
        rows = slice(max(i * stride - 1, 0), i * stride + 2)
        columns = slice(max(j * stride - 1, 0), j * stride + 2)
        out[b, c, i, j] = reduce(x[b, c, rows, columns])
    return out


def loop_bn(x):
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        out[:, c] = (x[:, c] - np.mean(x[:, c])) / np.sqrt(np.var(x[:, c]) + 1e-5)
    return out


def loop_factorized_reduce(x, params):
    """Pixel (i, j) of the halves reads (2i, 2j) and (2i + 1, 2j + 1), zero outside the image."""
    x = np.maximum(x, 0)
    batch, _, height, width = x.shape
    first, second = (np.asarray(params[name])[:, :, 0, 0] for name in ("conv1", "conv2"))
    half = first.shape[0]
    out = np.zeros((batch, 2 * half, -(-height // 2), -(-width // 2)))
    for b, i, j in np.ndindex(batch, *out.shape[2:]):
        out[b, :half, i, j] = first @ x[b, :, 2 * i, 2 * j]
        if 2 * i + 1 < height and 2 * j + 1 < width:
            out[b, half:, i, j] = second @ x[b, :, 2 * i + 1, 2 * j + 1]
    return loop_bn(out)


def loop_primitive(name, x, params, stride):
    weights = {key: np.asarray(value) for key, value in params.items()}
    channels = x.shape[1]
    if name == "none":
        return np.zeros(loop_pool(x, stride, np.max).shape)
    if name.endswith("pool_3x3"):
        return loop_bn(loop_pool(x, stride, np.max if name.startswith("max") else np.mean))
    if name == "skip_connect":
        return x if stride == 1 else loop_factorized_reduce(x, params)
    dilation = 2 if name.startswith("dil") else 1
    suffixes = ("",) if name.startswith("dil") else ("1", "2")
    for suffix in suffixes:
        depthwise, pointwise = weights["depthwise" + suffix], weights["pointwise" + suffix]
        x = loop_conv(np.maximum(x, 0), depthwise, stride, dilation, channels)
        x = loop_bn(loop_conv(x, pointwise))
        stride = 1
    return x


def random_like(tree, seed):
    """Arrays of the tree's shapes from a frozen stream, in the tree's own (sorted) order."""
    rng = np.random.RandomState(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape)), tree)


def one_cell(channels, reduction):
    """Parameters and statistics of a cell with this many channels, in float64."""
    # Of three cells the first is normal and the second a reduction, which doubles the channels.
    base, index = (channels // 2, 1) if reduction else (channels, 0)
    options = {"init_channels": base, "layers": 3, "dtype": jnp.float64}
    params = supernet.init(jax.random.key(3), in_channels=1, num_classes=2, **options)
    stats = supernet.init_batch_stats(**options)
    return params["cells"][index], stats["cells"][index]


# Modules ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "dilation", "groups"), [(1, 1, 1), (3, 1, 1), (3, 2, 2), (5, 1, 4), (5, 2, 4)]
)
def test_convolution_is_the_loop(kernel, dilation, groups, stride):
    rng = np.random.RandomState(0)
    x = rng.standard_normal((2, 4, 5, 6))
    weight = rng.standard_normal((4, 4 // groups, kernel, kernel))
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    actual = supernet.convolution(jnp.asarray(x), jnp.asarray(weight), **options)
    np.testing.assert_allclose(actual, loop_conv(x, weight, **options), rtol=0, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_pools_ignore_padding():
    # All pixels are -1: a padding of zeros would show as a maximum of 0 and a mean above -1.
    x = jnp.full((1, 1, 4, 3), -1.0)
    for stride, shape in ((1, (1, 1, 4, 3)), (2, (1, 1, 2, 2))):
        np.testing.assert_array_equal(supernet.max_pool(x, stride), np.full(shape, -1.0))
        np.testing.assert_array_equal(supernet.average_pool(x, stride), np.full(shape, -1.0))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", supernet.PRIMITIVES)
def test_primitive_is_the_loop(name, stride):
    x = np.random.RandomState(1).standard_normal((2, 4, 5, 6))
    params, stats = one_cell(4, reduction=stride == 2)
    params, stats = params["edges"][0].get(name, {}), stats["edges"][0].get(name, {})
    actual, new_stats = supernet.primitive(name, jnp.asarray(x), params, stats, stride, True)
    expected = loop_primitive(name, x, params, stride)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert jax.tree.structure(new_stats) == jax.tree.structure(stats)


def test_unknown_primitive():
    with pytest.raises(ValueError, match="no primitive 'conv'"):
        supernet.primitive("conv", jnp.zeros((1, 1, 2, 2)), {}, {}, 1, True)


@pytest.mark.usefixtures("x64")
def test_batch_norm_statistics():
    # One channel with the values 1, 2, 3, 6: mean 3, squares of deviations 4 + 1 + 0 + 9 = 14,
    # biased variance 3.5 (normalises), unbiased 14 / 3 (kept).
    x = jnp.asarray([1.0, 2.0, 3.0, 6.0]).reshape(2, 1, 2, 1)
    stats = {"mean": jnp.asarray([10.0]), "var": jnp.asarray([2.0])}
    y, new = supernet.batch_norm(x, stats, True)
    expected = np.array([-2.0, -1.0, 0.0, 3.0]) / math.sqrt(3.5 + 1e-5)
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-14)
    np.testing.assert_allclose(new["mean"], [0.9 * 10 + 0.1 * 3], rtol=1e-14)
    np.testing.assert_allclose(new["var"], [0.9 * 2 + 0.1 * 14 / 3], rtol=1e-14)
    y, new = supernet.batch_norm(x, stats, False)
    expected = np.array([-9.0, -8.0, -7.0, -4.0]) / math.sqrt(2 + 1e-5)
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-14)
    assert new == stats


def test_batch_norm_needs_two_values():
    stats = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    with pytest.raises(ValueError, match="more than one value"):
        supernet.batch_norm(jnp.ones((1, 3, 1, 1)), stats, True)


@pytest.mark.usefixtures("x64")
def test_mixed_operation_weighs_every_primitive():
    x = jnp.asarray(np.random.RandomState(2).standard_normal((2, 4, 4, 4)))
    params, stats = (tree["edges"][0] for tree in one_cell(4, reduction=True))
    for index, name in enumerate(supernet.PRIMITIVES):
        chosen = jnp.zeros(8).at[index].set(0.25)
        actual, new = supernet.mixed_operation(x, chosen, params, stats, 2, True)
        expected = 0.25 * loop_primitive(name, np.asarray(x), params.get(name, {}), 2)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
        # Every primitive runs whatever its weight, so every BatchNorm takes the batch in.
        assert jax.tree.structure(new) == jax.tree.structure(stats)


@pytest.mark.usefixtures("x64")
def test_cell_wiring():
    # With all the weight on skip_connect, node i is the sum of all states before it:
    # s0 + s1 = n0, then n1 = 2 n0, n2 = 4 n0, n3 = 8 n0.
    params, stats = one_cell(2, reduction=False)
    x = np.random.RandomState(3).standard_normal((2, 6, 3, 3))
    inputs = jnp.asarray(x), jnp.asarray(2 * x - 1)
    weights = jnp.zeros((14, 8)).at[:, supernet.PRIMITIVES.index("skip_connect")].set(1.0)
    y, _ = supernet.cell(*inputs, weights, params, stats, False, True)
    sources = zip(inputs, ("preprocess0", "preprocess1"), strict=True)
    s0, s1 = (
        loop_bn(loop_conv(np.maximum(np.asarray(s), 0), np.asarray(params[name]["conv"])))
        for s, name in sources
    )
    expected = np.concatenate([factor * (s0 + s1) for factor in (1, 2, 4, 8)], axis=1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


# The whole ----------------------------------------------------------------------------------------


def test_edges_in_darts_order():
    assert supernet.EDGES[:5] == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    assert supernet.EDGES[-5:] == ((3, 0), (3, 1), (3, 2), (3, 3), (3, 4))
    assert len(supernet.EDGES) == 14


@pytest.mark.parametrize(
    ("channels", "layers", "classes", "count"),
    [(16, 8, 10, 1_930_618), (8, 3, 10, 209_442), (8, 5, 10, 394_210), (16, 8, 100, 1_953_748)],
)
def test_parameter_count(channels, layers, classes, count):
    def build(key):
        return supernet.init(
            key, in_channels=3, num_classes=classes, init_channels=channels, layers=layers
        )

    assert supernet.count_parameters(jax.eval_shape(build, jax.random.key(0))) == count


def test_batch_norm_count():
    stats = jax.eval_shape(lambda: supernet.init_batch_stats(init_channels=16, layers=8))
    assert supernet.count_batch_norms(stats) == (929, 37_296)


@pytest.mark.usefixtures("x64")
def test_init_is_pytorchs():
    options = {"in_channels": 3, "num_classes": 10, "init_channels": 8, "layers": 3}
    params = supernet.init(jax.random.key(0), **options)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    cell = params["cells"][2]
    for weight, fan_in in (
        (params["stem"]["conv"], 3 * 9),
        (cell["preprocess0"]["conv1"], 32),
        (cell["edges"][13]["sep_conv_5x5"]["depthwise1"], 25),
        (cell["edges"][13]["sep_conv_5x5"]["pointwise2"], 32),
        (params["classifier"]["weight"], 128),
    ):
        # Within the bound, near it, and of the variance of a uniform draw: bound^2 / 3.
        bound = 1 / math.sqrt(fan_in)
        assert 0.97 * bound < float(jnp.max(jnp.abs(weight))) <= bound
        assert float(jnp.var(weight)) == pytest.approx(bound**2 / 3, rel=0.15)
    assert 0 < float(jnp.max(jnp.abs(params["classifier"]["bias"]))) <= 1 / math.sqrt(128)
    np.testing.assert_array_equal(params["stem"]["bn_scale"], np.ones(24))
    np.testing.assert_array_equal(params["stem"]["bn_bias"], np.zeros(24))


# Logits of torch.nn modules in float64 (PyTorch 2.13) for the weights, alphas and images of the
# test below: in training, then in evaluation with the running statistics that pass left behind.
TRAIN_LOGITS = (
    (-1.1216692073799401, -0.17828006912184574, 0.7417378235492789),
    (2.4323609410189584, 1.0883167828466225, -0.39934488402295865),
    (-0.06363101190492149, -0.13486019858132603, 0.07527380105482939),
)
EVAL_LOGITS = (
    (0.5645983200538014, -0.04078416758030956, 0.44578586353103583),
    (0.5877947311457606, 0.01869888370140932, 0.4123928591661325),
    (0.5872772753613207, 0.02349443798603071, 0.3993055389613188),
)
RUNNING_SUM = 3177.4839819491417  # all running means and variances


@pytest.mark.usefixtures("x64")
def test_logits_are_pytorchs():
    options = {"init_channels": 4, "layers": 3, "dtype": jnp.float64}
    params = supernet.init(jax.random.key(0), in_channels=2, num_classes=3, **options)
    params = random_like(params, 0)
    alphas = random_like({"normal": jnp.zeros((14, 8)), "reduce": jnp.zeros((14, 8))}, 1)
    images = random_like(jnp.zeros((3, 7, 7, 2)), 2)
    stats = supernet.init_batch_stats(**options)
    logits, new_stats = supernet.apply(params, alphas, stats, images, train=True)
    assert logits.dtype == jnp.float64
    assert jax.tree.structure(new_stats) == jax.tree.structure(stats)
    np.testing.assert_allclose(logits, TRAIN_LOGITS, rtol=0, atol=1e-10)
    total = sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(new_stats))
    assert total == pytest.approx(RUNNING_SUM, rel=1e-11)
    logits, same_stats = supernet.apply(params, alphas, new_stats, images, train=False)
    np.testing.assert_allclose(logits, EVAL_LOGITS, rtol=0, atol=1e-10)
    for old, new in zip(jax.tree.leaves(new_stats), jax.tree.leaves(same_stats), strict=True):
        np.testing.assert_array_equal(old, new)
