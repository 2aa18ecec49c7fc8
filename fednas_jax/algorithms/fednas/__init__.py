"""FedNAS: a supernet searched by all clients; He et al. 2020, arXiv:2004.08546."""
