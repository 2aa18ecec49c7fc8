"""Architecture search on one client: genotypes and the local search step."""
