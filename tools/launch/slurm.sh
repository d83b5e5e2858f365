#!/usr/bin/env bash
# SLURM: one process for each GPU of each node.
#
#     sbatch tools/launch/slurm.sh
#
# JAX finds the processes by SLURM's variables and gives the process of local number i the node's
# GPU i. Every process must therefore see all GPUs of its node: --gres, not --gpus-per-task.

# ---- EDIT 1 of 2: the machines. Whole nodes; tasks for each node = its GPUs.
#SBATCH --job-name=thyrojax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=24:00:00

# SIGTERM reaches the processes 120 s before the time is over.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

# ---- EDIT 2 of 2: the run. Set and run are on a disk that all nodes share.
shared=/shared/data/nodules
run=/shared/runs/nodules
local=${SLURM_TMPDIR:-/tmp}/thyrojax-data
options=(guan2019 --feed resident --dtype bfloat16 --batch-size 512 --log-every 100)

# ---- Nothing to edit below.
set -u
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$run.xla}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun takes it from nowhere else
trap : TERM # this script lives on to ask for the next turn

# A copy on each node; what is there already is not copied again.
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  mkdir -p "$local" || exit 1
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  rsync -a "$shared/" "$local/" || exit 1

# Processes end each other, with a status that tells why: SLURM must not do it before.
srun --kill-on-bad-exit=0 --wait=300 \
  thyrojax train "${options[@]}" --data "$local" --workdir "$run" --grace-seconds 60 --distributed
status=$?

case $status in
  0 | 1 | 2) exit "$status" ;; # finished; a fault of ours; bad input
esac
# 143 stopped, 75 lost another process, 137 killed: the next turn goes on from the last checkpoint.
if [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  echo "thyrojax ended with status $status; queued again" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
