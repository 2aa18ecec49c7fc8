"""Preparing the process and the machine before anything is computed."""
