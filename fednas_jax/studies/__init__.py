"""Several runs together: sweeps and comparisons."""
