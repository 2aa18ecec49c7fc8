"""The search space, written down once more, so that the reference shares nothing with the package.

Liu et al., DARTS (arXiv:1806.09055), section 2.1 and appendix A.
"""

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
EDGES = tuple((node, state) for node in range(NODES) for state in range(node + 2))
"""(node, source state); 0 and 1 are the cell's inputs, 2 + i is node i."""
STEM_MULTIPLIER = 3


def reductions(layers: int) -> tuple[int, int]:
    """The cells that halve the map and double the channels."""
    return layers // 3, 2 * layers // 3
