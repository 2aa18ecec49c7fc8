#!/usr/bin/env bash
# Makes .venv and installs what running needs; quick when nothing has changed.
#
#   bash scripts/setup.sh [--dev] [--mpi]
#
#   --dev     what the tests and checks need, too; on Debian, as root, also a browser
#   --mpi     what several ranks need: the system's MPI, or Open MPI from a package; needs a C++
#             compiler
#   PYTHON    the interpreter to use (environment); else python3.12 or python3.11, as found
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "setup: error: $1" >&2
  exit 2
}

# Prints why an interpreter will not do; nothing where it will.
objection() {
  "$1" - 2>&1 <<'CHECK' || echo "$1: does not run"
import sys
version = sys.version_info[:2]
if not (3, 11) <= version <= (3, 12):
    age = "old" if version < (3, 11) else "new"
    print("%s: Python %d.%d is too %s; 3.11 or 3.12 is needed" % ((sys.executable,) + version + (age,)))
    sys.exit()
try:
    import ensurepip, venv
except ImportError:
    print("%s: has no venv module; on Debian and Ubuntu: apt install python%d.%d-venv"
          % ((sys.executable,) + version))
CHECK
}

# Sets `python` to the first interpreter that will do.
find_python() {
  local candidates=(python3.12 python3.11 python3 python) candidate reason first_reason=""
  if [[ -n "${PYTHON:-}" ]]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    if ! command -v "$candidate" >/dev/null; then
      continue
    fi
    reason="$(objection "$candidate" | tail -n 1)"
    if [[ -z "$reason" ]]; then
      python="$candidate"
      return
    fi
    # One that exists for pyenv alone does not run; what stands in the way is told by another.
    if [[ -z "$first_reason" || "$first_reason" == *"does not run" ]]; then
      first_reason="$reason"
    fi
  done
  fail "${first_reason:-${PYTHON:-python3.12, python3.11}: not found; install Python 3.11 or 3.12, or set PYTHON to one}"
}

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Makes .venv, or makes it anew where it does not run or PYTHON asks for another version.
make_environment() {
  local present python
  present="$(version_of .venv/bin/python || true)"
  if [[ ("$present" == 3.11 || "$present" == 3.12) && -z "${PYTHON:-}" ]]; then
    return
  fi
  find_python
  if [[ "$present" == "$(version_of "$python")" ]]; then
    return
  fi
  echo "setup: making .venv with Python $(version_of "$python")"
  "$python" -m venv --clear .venv
}

# Installs a requirements file unless .venv has it as it stands.
install() {
  local stamp=".venv/installed-$1"
  if cmp -s "$1" "$stamp"; then
    return
  fi
  # A venv made by other tools, or cut short while it was made, has no pip.
  .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
  echo "setup: installing $1 into .venv; the first time takes a few minutes"
  .venv/bin/python -m pip install --disable-pip-version-check -qq -c requirements.txt -r "$1" ||
    fail "$1 could not be installed, see above; a package index must be within reach"
  cp "$1" "$stamp"
}

# The tests of pages open them in a browser; where there is none, those tests skip.
install_browser() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do
    if command -v "$name" >/dev/null; then
      return
    fi
  done
  # Ubuntu's package of that name is a snap, which containers cannot run.
  if [[ "$EUID" != 0 ]] || ! grep -qs '^ID=debian' /etc/os-release || ! command -v apt-get >/dev/null; then
    echo "setup: no Chromium or Chrome here: tests that open pages will skip"
    return
  fi
  echo "setup: installing chromium, in which tests open pages"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
    echo "setup: chromium could not be installed; tests that open pages will skip" >&2
}

# mpi4jax's build looks for CUDA by its compiler; one without headers makes it fail.
cuda_to_build_with() {
  local compiler root
  compiler="$(command -v nvcc || true)"
  if [[ -n "${CUDA_PATH:-}" || -z "$compiler" ]]; then
    echo "${CUDA_PATH:-}"
    return
  fi
  root="$(dirname "$(dirname "$(readlink -f "$compiler")")")"
  if [[ -e "$root/include/cuda_runtime.h" ]]; then
    echo "$root"
  else
    mkdir -p .venv/no-cuda
    echo "$PWD/.venv/no-cuda"
  fi
}

# Installs MPI for Python, compiled against the MPI that there is.
install_mpi() {
  local stamp=".venv/installed-requirements-mpi.txt" cuda log=".venv/mpi-build.log"
  if ! command -v mpicc >/dev/null || ! command -v mpirun >/dev/null; then
    install requirements-openmpi.txt
  fi
  if cmp -s requirements-mpi.txt "$stamp"; then
    return
  fi
  command -v c++ >/dev/null || fail "c++: not found; a C++ compiler is needed (Debian: apt install g++)"
  echo "setup: installing requirements-mpi.txt into .venv, of which mpi4jax is compiled"
  grep -v '^mpi4jax' requirements-mpi.txt >.venv/requirements-mpi-first.txt
  .venv/bin/python -m pip install --disable-pip-version-check -qq -c requirements.txt \
    -r .venv/requirements-mpi-first.txt ||
    fail "requirements-mpi.txt could not be installed, see above; a package index must be within reach"
  cuda="$(cuda_to_build_with)"
  env PATH="$PWD/.venv/bin:$PATH" ${cuda:+CUDA_PATH="$cuda"} \
    .venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation \
    -c requirements.txt -r requirements-mpi.txt >"$log" 2>&1 ||
    fail "mpi4jax could not be compiled; $log says why"
  cp requirements-mpi.txt "$stamp"
}

dev=false mpi=false
for argument in "$@"; do
  case "$argument" in
    --dev) dev=true ;;
    --mpi) mpi=true ;;
    *) fail "$argument: unknown; usage: bash scripts/setup.sh [--dev] [--mpi]" ;;
  esac
done

make_environment
install requirements.txt
if "$dev"; then
  install requirements-dev.txt
  install_browser
fi
if "$mpi"; then
  install_mpi
fi
