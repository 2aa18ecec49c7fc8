"""Benchmarks: they print times and memory, and no test asserts what they print."""
