#!/usr/bin/env bash
# All checks: lint, format, types, tests, and whether each group of pyproject.toml can be installed.
# It sets up what is missing; with --mpi also MPI, without which tests of several ranks are skipped.
#
#   bash scripts/test.sh [--mpi] [arguments for pytest, such as tests/data]
#
# With arguments for pytest, groups are not checked. Workers, one per core, share the tests; then those
# marked `alone` run one after the other. Types are checked at the same time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup=(--dev)
if [[ "${1:-}" == --mpi ]]; then
  setup+=(--mpi)
  shift
fi
bash scripts/setup.sh "${setup[@]}"

python="${VENV:-.venv}/bin/python"
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT
failed=()

# A failed check does not prevent the next ones.
check() {
  echo "+ $*"
  "$python" -m "$@" || failed+=("$1")
}

NO_TESTS=5 # pytest's exit status
chosen=false
# Runs the tests of one kind, if the arguments select any, and keeps the output of pytest.
tests() {
  local status=0 color=()
  [[ -t 1 ]] && color=(--color=yes)
  echo "+ pytest $*"
  "$python" -m pytest ${color[@]+"${color[@]}"} "$@" 2>&1 | tee -a "$made/tests" || status=$?
  if ((status != NO_TESTS)); then
    chosen=true
    ((status == 0)) || failed+=(pytest)
  fi
}

workers="$(getconf _NPROCESSORS_ONLN)"
((workers <= 4)) || workers=4 # each takes up to 2 GB

check ruff check .
check ruff format --check .
if (($# == 0)); then
  # Checks that each group, those for GPUs too, can be installed in the versions of the lock file.
  for group in report wandb huggingface mpi cuda12 cuda13; do
    check uv pip install --quiet --dry-run --python "$python" -c requirements-lock.txt ".[$group]"
  done
fi
"$python" -m mypy >"$made/types" 2>&1 &
mypy=$!
tests -n "$workers" --no-loadscope-reorder -m "not alone" "$@"
tests -m alone "$@"
"$chosen" || failed+=("pytest, which found no tests")
echo "+ mypy"
wait "$mypy" || failed+=(mypy)
cat "$made/types"

echo "test: pytest said:"
sed 's/\x1b\[[0-9;]*m//g' "$made/tests" | grep -E '^(FAILED|ERROR) | in [0-9.]+s' || true
if ((${#failed[@]})); then
  echo "test: failed: ${failed[*]}" >&2
  exit 1
fi
echo "test: all passed"
