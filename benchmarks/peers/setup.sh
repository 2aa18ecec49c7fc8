#!/usr/bin/env bash
# Makes the environments of the benchmarks' peers: benchmarks/peers/setup.sh [torch] [flower] [pfl]
#
# Without a name, all three. Each is a virtual environment .venv-NAME beside this file, with the
# packages of requirements-NAME.txt. PYTHON names the interpreter to make them from (3.11).
set -euo pipefail
cd "$(dirname "$0")"

names=("$@")
[[ ${#names[@]} -gt 0 ]] || names=(torch flower pfl)
for name in "${names[@]}"; do
  if [[ ! -f "requirements-$name.txt" ]]; then
    echo "setup.sh: $name: no such peer; torch, flower or pfl is needed" >&2
    exit 2
  fi
done
for name in "${names[@]}"; do
  "${PYTHON:-python3.11}" -m venv ".venv-$name"
  ".venv-$name/bin/python" -m pip install --quiet --requirement "requirements-$name.txt"
  echo "benchmarks/peers/.venv-$name: ready"
done
