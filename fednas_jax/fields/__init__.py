"""The fields of a config: what one is, those of every run, what they must be to each other."""
