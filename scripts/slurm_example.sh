#!/usr/bin/env bash
#SBATCH --job-name=fednas_jax
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#
# An example for SLURM, with four machines of four GPUs: sbatch scripts/slurm_example.sh
# The folder, its .venv and the workdir must be on shared storage. Run once, on a machine with a GPU:
#   bash scripts/setup.sh --cuda --mpi
# (on one without a GPU: --cuda=13 instead). A run that finds a GPU and cannot use it prints a line.
# Two minutes before the time limit SLURM sends SIGUSR1, and the run saves its last whole round.
# --requeue restarts the job when a machine fails; after the time limit submit it again. Both resume
# after the last checkpoint.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch}"

# If SLURM has PMIx (see srun --mpi=list), it starts the ranks of any Open MPI; otherwise use mpirun,
# which finds the machines of the job by itself.
if srun --mpi=list 2>&1 | grep pmix >/dev/null; then
  exec srun --mpi=pmix --kill-on-bad-exit=1 .venv/bin/python -m fednas_jax.main \
    --config=configs/cifar_hetero.py --workdir=runs/cifar_hetero
fi
exec .venv/bin/mpirun --bind-to none .venv/bin/python -m fednas_jax.main \
  --config=configs/cifar_hetero.py --workdir=runs/cifar_hetero
