#!/usr/bin/env bash
# All checks: lint, format, types, tests. Sets up if need be; with --mpi first, MPI as well (tests of
# several ranks skip without it).
#
#   bash scripts/test.sh [--mpi] [arguments for pytest, such as tests/data]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup=(--dev)
if [[ "${1:-}" == --mpi ]]; then
  setup+=(--mpi)
  shift
fi
bash scripts/setup.sh "${setup[@]}"

failed=()
# One that fails does not hide what the next would say.
check() {
  echo "+ $*"
  "${VENV:-.venv}/bin/python" -m "$@" || failed+=("$1")
}

check ruff check .
check ruff format --check .
check mypy
check pytest "$@"

if ((${#failed[@]})); then
  echo "test: failed: ${failed[*]}" >&2
  exit 1
fi
echo "test: all passed"
