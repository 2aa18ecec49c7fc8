#!/usr/bin/env bash
# Creates .venv and installs fednas_jax and the exact versions of requirements-lock.txt into it; it is
# quick if nothing has changed.
#
#   bash scripts/setup.sh [--dev] [--mpi] [--cuda | --cuda=12 | --cuda=13]
#
#   --dev     what the tests and checks need, too; on Debian, as root, also a browser
#   --mpi     what several ranks need: the system's MPI, or Open MPI from a package; needs a C++
#             compiler
#   --cuda    what an NVIDIA GPU needs: CUDA 13, or 12 where the driver or the GPU is older; with a
#             number also on a machine without a GPU
#   PYTHON    the interpreter to use (environment); else python3.12, 3.13 or 3.11, as found
#   VENV      the folder in place of .venv (environment)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${VENV:-.venv}"
lock=requirements-lock.txt

fail() {
  echo "setup: error: $1" >&2
  exit 2
}

# Prints why an interpreter is not usable; prints nothing if it is.
objection() {
  "$1" - 2>&1 <<'CHECK' || echo "$1: does not run"
import sys
version = sys.version_info[:2]
if not (3, 11) <= version <= (3, 13):
    age = "old" if version < (3, 11) else "new"
    print("%s: Python %d.%d is too %s; 3.11, 3.12 or 3.13 is needed" % ((sys.executable,) + version + (age,)))
    sys.exit()
try:
    import ensurepip, venv
except ImportError:
    print("%s: has no venv module; on Debian and Ubuntu: apt install python%d.%d-venv"
          % ((sys.executable,) + version))
CHECK
}

# Sets `python` to the first usable interpreter.
find_python() {
  local candidates=(python3.12 python3.13 python3.11 python3 python) candidate reason first_reason=""
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
    # An interpreter that only pyenv knows does not run; another one gives a better reason.
    if [[ -z "$first_reason" || "$first_reason" == *"does not run" ]]; then
      first_reason="$reason"
    fi
  done
  fail "${first_reason:-${PYTHON:-python3.12, python3.13, python3.11}: not found; install one of them, or set PYTHON to one}"
}

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Creates the environment; replaces one that does not run, or whose version PYTHON does not ask for.
make_environment() {
  local present python
  present="$(version_of "$venv/bin/python" || true)"
  if [[ "$present" =~ ^3\.1[123]$ && -z "${PYTHON:-}" ]]; then
    return
  fi
  find_python
  if [[ "$present" == "$(version_of "$python")" ]]; then
    return
  fi
  echo "setup: making $venv with Python $(version_of "$python")"
  "$python" -m venv --clear "$venv"
}

# The lock file names its Pythons; on others pip would not find a version of each package.
check_lock() {
  local version first last
  [[ -f "$lock" ]] || fail "$lock: missing; git checkout $lock brings it back"
  read -r first last < <(sed -n 's/^# Python \(3\.[0-9]*\) to \(3\.[0-9]*\).*/\1 \2/p' "$lock") ||
    fail "$lock: does not say for which Pythons it is; bash scripts/lock.sh makes it anew"
  version="$(version_of "$venv/bin/python")"
  if ((${version#3.} < ${first#3.} || ${version#3.} > ${last#3.})); then
    fail "$lock: is for Python $first to $last, $venv has $version; set PYTHON to one of these"
  fi
}

pip_install() {
  "$venv/bin/python" -m pip install --disable-pip-version-check -qq -c "$lock" "$@"
}

# Installs packages, unless the environment has those of the present pyproject.toml and lock file:
# `install STAMP ARGUMENT-OF-PIP...`.
install() {
  local stamp="$venv/installed-$1"
  if cat pyproject.toml "$lock" 2>/dev/null | cmp -s - "$stamp"; then
    return
  fi
  # An environment of other tools, or one whose creation was interrupted, has no pip.
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
  check_lock
  echo "setup: installing ${*:2} into $venv; the first time takes a few minutes"
  pip_install "${@:2}" ||
    fail "${*:2} could not be installed for Python $(version_of "$venv/bin/python") as $lock says, see above; a package index must be within reach"
  cat pyproject.toml "$lock" >"$stamp"
}

# The tests of pages need a browser; without one they are skipped.
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

# The build of mpi4jax finds CUDA by its compiler, and fails if CUDA has no headers.
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
    mkdir -p "$venv/no-cuda"
    realpath "$venv/no-cuda"
  fi
}

# Installs MPI for Python, compiled for the MPI of this machine and the packages of this environment,
# therefore last and without build isolation. A cached or installed one may be for another jaxlib.
install_mpi() {
  local cuda log="$venv/mpi-build.log" bin
  if ! command -v mpicc >/dev/null || ! command -v mpirun >/dev/null; then
    install openmpi openmpi
  fi
  if cat pyproject.toml "$lock" | cmp -s - "$venv/installed-mpi"; then
    return
  fi
  command -v c++ >/dev/null || fail "c++: not found; a C++ compiler is needed (Debian: apt install g++)"
  install mpi-build cython nanobind setuptools wheel mpi4py
  echo "setup: compiling mpi4jax"
  cuda="$(cuda_to_build_with)" bin="$(realpath "$venv/bin")"
  env PATH="$bin:$PATH" ${cuda:+CUDA_PATH="$cuda"} \
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-build-isolation \
    --no-cache-dir --force-reinstall --no-deps -c "$lock" mpi4jax >"$log" 2>&1 || fail "mpi4jax could not be compiled; $log says why"
  cat pyproject.toml "$lock" >"$venv/installed-mpi"
}

# Sets `cuda` to the release that the driver supports, or checks the one that was asked for.
find_cuda() {
  local asked="${1#--cuda}" said
  said="$("$venv/bin/python" fednas_jax/runtime/gpu.py ${asked:+"${asked#=}"} 2>&1)" || fail "$said"
  cuda="$said"
}

# Sets `cuda` to the release that an earlier --cuda has installed, so that it follows the lock file.
find_installed_cuda() {
  local number
  for number in 12 13; do
    if [[ -e "$venv/installed-cuda$number" ]]; then
      cuda="$number"
    fi
  done
}

# With two plugins JAX uses the one that it finds first.
remove_other_cuda() {
  local other=$((25 - cuda))
  if [[ -e "$venv/installed-cuda$other" ]]; then
    "$venv/bin/python" -m pip uninstall -q -y "jax-cuda$other-plugin" "jax-cuda$other-pjrt"
    rm "$venv/installed-cuda$other"
  fi
}

extras=report mpi=false cuda_asked="" cuda=""
for argument in "$@"; do
  case "$argument" in
    --dev) extras=dev ;;
    --mpi) mpi=true ;;
    --cuda | --cuda=*) cuda_asked="$argument" ;;
    *) fail "$argument: unknown; usage: bash scripts/setup.sh [--dev] [--mpi] [--cuda[=12|=13]]" ;;
  esac
done

make_environment
if [[ -n "$cuda_asked" ]]; then
  find_cuda "$cuda_asked"
else
  find_installed_cuda
fi
if [[ -n "$cuda" ]]; then
  remove_other_cuda
  install "cuda$cuda" -e ".[cuda$cuda]"
elif "$venv/bin/python" fednas_jax/runtime/gpu.py >/dev/null 2>&1; then
  echo "setup: this machine has an NVIDIA GPU; bash scripts/setup.sh --cuda lets JAX use it"
fi
install "$extras" -e ".[$extras]"
if [[ "$extras" == dev ]]; then
  install_browser
fi
if "$mpi"; then
  install_mpi
fi
