"""One colour an operation, the same in every picture; told apart also without red or green."""

OPERATION_COLORS = {
    "none": "#8c8c8c",
    "max_pool_3x3": "#e6850e",
    "avg_pool_3x3": "#c8a400",
    "skip_connect": "#4d4d4d",
    "sep_conv_3x3": "#56a3e0",
    "sep_conv_5x5": "#0b4f94",
    "dil_conv_3x3": "#3fb98b",
    "dil_conv_5x5": "#05664a",
}
"""Name -> colour: blue separable and green dilated convolutions, the larger kernel darker."""
