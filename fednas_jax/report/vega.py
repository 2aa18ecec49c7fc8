"""Imports Altair, which asks for a home folder on import, also where there is none."""

from fednas_jax.runtime.paths import home

with home():
    import altair as alt

__all__ = ["alt"]
