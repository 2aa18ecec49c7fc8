"""The colours of plots and pages, which the colour-blind can tell apart."""

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
"""Operation -> colour: separable convolutions are blue, dilated ones green, larger kernels
darker."""

OPERATION_COLORS_IN_THE_DARK = OPERATION_COLORS | {
    "skip_connect": "#a9b0ba",
    "sep_conv_5x5": "#2c74cc",
    "dil_conv_5x5": "#0d8361",
}
"""Operation -> colour on a dark page, where the darkest colours would not be visible."""

_DARK_INK, _WHITE = "#14181d", "#ffffff"

ON_OPERATION_COLORS = {
    "none": _DARK_INK,
    "max_pool_3x3": _DARK_INK,
    "avg_pool_3x3": _DARK_INK,
    "skip_connect": "#fefefe",
    "sep_conv_3x3": _DARK_INK,
    "sep_conv_5x5": _WHITE,
    "dil_conv_3x3": _DARK_INK,
    "dil_conv_5x5": _WHITE,
}
"""Operation -> colour of text on the operation's colour, with a contrast of 4.5 or more. That of
skip_connect is not quite white, so that a page can tell it apart and change it in the dark."""

ON_SKIP_IN_THE_DARK = _DARK_INK
"""Colour of text on that of skip_connect on a dark page."""

SERIES = {
    "train": ("train part", "#0072b2"),
    "valid": ("validation part", "#e69f00"),
    "held_out": ("held out of every client", "#009e73"),
    "test": ("test set", "#cc3311"),
}
"""Prefix of a metric's name -> the examples it was measured on, and the colour of its curve."""

SERIES_IN_THE_DARK = {
    "train": "#4aa8e0",
    "valid": "#f0b13c",
    "held_out": "#2dc59a",
    "test": "#ff6b52",
}
"""Prefix of a metric's name -> the colour of its curve on a dark page."""
