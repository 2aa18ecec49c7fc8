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
# An example for SLURM, four machines of four GPUs: sbatch scripts/slurm_example.sh
# The folder, its .venv and the workdir are to be on shared storage. Once, on a machine with a GPU:
#   bash scripts/setup.sh --cuda --mpi
# (on one without: --cuda=13 in place of --cuda). A run that finds a GPU and cannot use it says so.
# Two minutes before the end SLURM sends SIGUSR1, on which the last whole round is kept.
# --requeue starts it again when a machine fails; after the time limit submit it again. Either goes on
# after the last checkpoint.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch}"

# Where SLURM was built with PMIx (srun --mpi=list says so), it starts the ranks of any Open MPI;
# elsewhere: mpirun finds the machines of the job by itself.
if srun --mpi=list 2>&1 | grep pmix >/dev/null; then
  exec srun --mpi=pmix --kill-on-bad-exit=1 .venv/bin/python -m fednas_jax.main \
    --config=configs/cifar_hetero.py --workdir=runs/cifar_hetero
fi
exec .venv/bin/mpirun --bind-to none .venv/bin/python -m fednas_jax.main \
  --config=configs/cifar_hetero.py --workdir=runs/cifar_hetero
