"""The search space of DARTS: what the rows and columns of an alpha stand for."""

PRIMITIVES: tuple[str, ...] = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations of an edge; an alpha's column is an index into it."""

NODES = 4
"""Intermediate nodes of a cell. States 0 and 1 are the cell's inputs, state 2 + i is node i."""

EDGES: tuple[tuple[int, int], ...] = tuple(
    (node, state) for node in range(NODES) for state in range(2 + node)
)
"""(node, source state) of the 14 edges in DARTS order; an alpha's row is an index into it."""
