"""The colours of pictures and pages; told apart also without red or green."""

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

OPERATION_COLORS_IN_THE_DARK = OPERATION_COLORS | {
    "skip_connect": "#a9b0ba",
    "sep_conv_5x5": "#2c74cc",
    "dil_conv_5x5": "#0f8a66",
}
"""The same, where the darkest would not be seen."""

SERIES = {
    "train": ("train part", "#0072b2"),
    "valid": ("validation part", "#e69f00"),
    "held_out": ("held out of every client", "#009e73"),
    "test": ("test set", "#cc3311"),
}
"""Start of a metric's name -> what it was measured on, and the colour of its curve."""

SERIES_IN_THE_DARK = {
    "train": "#4aa8e0",
    "valid": "#f0b13c",
    "held_out": "#2dc59a",
    "test": "#ff6b52",
}
"""Name -> the curve's colour on a dark page."""
