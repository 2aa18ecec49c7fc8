"""The fields of a config: their types and checks, and the fields that all algorithms have."""
