#!/usr/bin/env bash
# Runs all checks on Pythons other than that of .venv, each in a separate environment (.venv-3.12, ...).
#
#   bash scripts/test_pythons.sh 3.12 3.13 [-- arguments of scripts/test.sh, such as --mpi]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

versions=()
while (($#)) && [[ "$1" != -- ]]; do
  versions+=("$1")
  shift
done
(($# == 0)) || shift
if ((${#versions[@]} == 0)); then
  echo "test_pythons: error: no version; usage: bash scripts/test_pythons.sh 3.12 3.13" >&2
  exit 2
fi

# Prints an interpreter of a version: one on the PATH that runs, or pyenv's.
interpreter() {
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    if "$candidate" -c '' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "test_pythons: error: python$1: not found; install Python $1" >&2
  return 2
}

failed=()
for version in "${versions[@]}"; do
  python="$(interpreter "$version")"
  echo "test_pythons: Python $version"
  PYTHON="$python" VENV=".venv-$version" bash scripts/test.sh "$@" || failed+=("$version")
done
if ((${#failed[@]})); then
  echo "test_pythons: failed: ${failed[*]}" >&2
  exit 1
fi
echo "test_pythons: all passed: ${versions[*]}"
