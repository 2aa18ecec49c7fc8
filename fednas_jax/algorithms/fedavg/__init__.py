"""FedAvg: a network trained by all clients; McMahan et al. 2017, arXiv:1602.05629."""
