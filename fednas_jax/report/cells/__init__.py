"""Drawings of cells and of their alphas."""
