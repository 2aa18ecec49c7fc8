"""The search space of DARTS: its supernet, and the network of a genotype."""
