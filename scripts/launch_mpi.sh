#!/usr/bin/env bash
# Runs a config on several ranks, each with a share of the clients. Needs: bash scripts/setup.sh --mpi
#
#   bash scripts/launch_mpi.sh -n 4 --config=configs/digits_quick.py [--workdir=DIR] [...]
#
#   -n N              number of ranks; on one machine with GPUs, one for each GPU
#   --hostfile=FILE   of several machines, a line each: "name slots=4"; rank 0, which writes the
#                     workdir, is on the first. All need this folder, with its .venv, at the same
#                     path, ssh without a password, and an open network between them
#   --dry-run         prints the command and runs nothing
#
# All other arguments, and the exit codes, are those of python -m fednas_jax.main. If a rank is lost,
# the exit code is 3 or that of the lost rank, and the same command resumes the run. After SIGTERM or
# Ctrl-C it is 143, as soon as the last checkpoint is written. FEDNAS_JAX_MPI_SECONDS (environment) is
# the time in seconds without a message after which a rank counts as lost; 30 if not set.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
  echo "launch_mpi: error: $1" >&2
  exit 2
}

ranks="" hostfile="" dry=false arguments=()
while (($#)); do
  case "$1" in
    -n) ranks="${2:-}"; shift ;;
    --hostfile) hostfile="${2:-}"; shift ;;
    --hostfile=*) hostfile="${1#*=}" ;;
    --dry-run) dry=true ;;
    *) arguments+=("$1") ;;
  esac
  shift || fail "the last argument has no value; usage: bash scripts/launch_mpi.sh -n 4 --config=FILE"
done
[[ "$ranks" =~ ^[1-9][0-9]*$ ]] || fail "-n: ${ranks:-missing}; the number of ranks is needed, such as -n 4"

python="$root/.venv/bin/python"
[[ -x "$python" ]] || python="$(command -v python3 || true)"
mpirun="$root/.venv/bin/mpirun"
[[ -x "$mpirun" ]] || mpirun="$(command -v mpirun || true)"
[[ -n "$mpirun" ]] || fail "mpirun: not found; run: bash scripts/setup.sh --mpi"

command=("$mpirun" -n "$ranks")
if [[ "$("$mpirun" --version 2>&1)" == *"Open MPI"* ]]; then
  # Ranks are not bound to cores: each computes with all free cores.
  command+=(--bind-to none)
  if [[ "$EUID" == 0 ]]; then
    command+=(--allow-run-as-root)
  fi
  for variable in FEDNAS_JAX_MPI_SECONDS FEDNAS_JAX_ENVIRONMENT TFDS_DATA_DIR JAX_PLATFORMS PYTHONPATH; do
    if [[ -n "${!variable:-}" ]]; then
      command+=(-x "$variable")
    fi
  done
  if [[ -z "$hostfile" ]]; then
    command+=(--oversubscribe)
  elif [[ "$mpirun" == "$root"/* ]]; then
    command+=(--prefix "$root/.venv")
  fi
fi
if [[ -n "$hostfile" ]]; then
  [[ -r "$hostfile" ]] || fail "--hostfile: $hostfile cannot be read"
  command+=(--hostfile "$hostfile")
fi
command+=("$python" -m fednas_jax.main ${arguments[@]+"${arguments[@]}"})
if "$dry"; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi

# After SIGTERM mpirun kills the ranks within a quarter of a second, during their last checkpoint.
# SIGUSR1 it hands on; on that they end by themselves. In a process group of its own a Ctrl-C of the
# terminal does not reach it.
set -m
launched=""
trap 'kill -USR1 "$launched" 2>/dev/null || true' INT TERM HUP
"${command[@]}" </dev/null &
launched=$!
code=0
wait "$launched" || code=$?
while kill -0 "$launched" 2>/dev/null; do  # the trap ends the first wait
  code=0
  wait "$launched" || code=$?
done
exit "$code"
