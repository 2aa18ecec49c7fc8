"""The process and the machine: settings, files, errors, compilation, and users' own code."""
