#!/usr/bin/env bash
# A whole federated architecture search, from nothing: sets up, then searches on 8 x 8 digits.
#
#   bash scripts/quickstart.sh [--config.FIELD=VALUE ...] [--workdir=DIR]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh

workdir=runs/quickstart
command=(.venv/bin/python -m fednas_jax.main --config=configs/digits_quick.py "--workdir=$workdir" "$@")
echo "quickstart: 8 clients with unlike shares of scikit-learn's digits search an architecture together."
if [[ -e "$workdir/summary.json" && " $*" != *" --workdir"* ]]; then
  echo "quickstart: $workdir holds a finished search; add --workdir=DIR, or 'rm -r $workdir', for a new one."
fi
echo "+ ${command[*]}"
"${command[@]}" # a --workdir among the arguments comes later, and so it counts
echo "quickstart: for commands of your own, first: source .venv/bin/activate"
