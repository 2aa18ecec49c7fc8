"""`python -m fednas_jax`: the command `fednas-jax`, for where that is not on the path."""

import sys

from fednas_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(program="python -m fednas_jax"))
