"""Reproducible measurements of time and memory."""
