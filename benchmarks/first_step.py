"""Times the first round of a federation, with one client and one step, in a new process.

    python -m benchmarks.first_step --case tiny --cache FOLDER

`benchmarks.local_step` starts it twice, with an empty folder and with a full one.
"""

import argparse
import json
import time

from benchmarks import cases
from benchmarks.rounds import Ours
from fednas_jax.runtime import cache


def main() -> None:
    """Two rounds, then one line of JSON; `done` is when the first ended, in seconds since 1970."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", required=True)
    parser.add_argument("--cache", required=True)
    arguments = parser.parse_args()
    case = cases.find(arguments.case)
    config = cases.config(case, clients_per_round=1)
    with cache.configured(arguments.cache):
        ours = Ours(config, cases.population(case, config, clients=1, steps=1))
        first = ours.rounds(1)
        done = time.time()
        # The second round does not trace and compile, or read the cache, again.
        compiling = first - ours.rounds(1)
    print(json.dumps({"ready": True, "compile_seconds": compiling, "done": done}))


if __name__ == "__main__":
    main()
