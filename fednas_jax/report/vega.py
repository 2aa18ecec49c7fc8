"""Altair, which asks for a home folder when it is imported, and may be where there is none."""

from fednas_jax.paths import home

with home():
    import altair as alt

__all__ = ["alt"]
