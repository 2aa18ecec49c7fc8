#!/usr/bin/env bash
# Makes requirements-lock.txt: one exact version of each dependency in pyproject.toml, for each
# Python. Versions that still fit are kept; arguments go to `uv pip compile`, such as --upgrade or
# --upgrade-package=jax. Needs: bash scripts/setup.sh --dev
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${VENV:-.venv}"

if [[ ! -x "$venv/bin/uv" ]]; then
  echo "lock: error: $venv/bin/uv: not found; bash scripts/setup.sh --dev installs it" >&2
  exit 2
fi
made="$(mktemp)"
trap 'rm -f "$made"' EXIT
cp requirements-lock.txt "$made" 2>/dev/null || true
"$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --all-extras \
  --group mpi-build --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
  --output-file "$made" pyproject.toml "$@"
{
  echo "# Python 3.11 to 3.13. Made by: bash scripts/lock.sh"
  grep -v '^-e \|^fednas' "$made"
} >requirements-lock.txt
echo "lock: requirements-lock.txt has $(grep -c == requirements-lock.txt) versions"
