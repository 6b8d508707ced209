#!/usr/bin/env bash
# A search on a Slurm cluster, one level a job. From the repository, once:
#
#   DATA=/datasets/mirl RUN=/scratch/$USER/paper sbatch examples/slurm/search.sh --recipe paper
#
# Options after the script go to `mirl search`. The array runs its jobs one after another: each trains one level, or goes on with
# the level that its predecessor's time was too short for, and those after the last level end at once. Nothing is lost when a job
# is killed but the time since the last checkpoint; submit again to go on. RUN and DATA must be seen by all nodes.
#SBATCH --job-name=mirl-search
#SBATCH --array=0-31%1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --output=mirl-%A-%a.log
set -euo pipefail

RUN=${RUN:-runs/paper}
DATA=${DATA:?the training folder in the layout of MIR-L, see mirl data paper}
PROCESSES=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}} # on each node, one a GPU
TIME_LIMIT=${TIME_LIMIT:-23h}                    # a little less than --time: stop at a safe point, exit code 0
PORT=$((20000 + SLURM_JOB_ID % 20000))

if [ -e "$RUN/ticket.mirl" ]; then
  echo "the search has ended: $RUN/ticket.mirl"
  exit 0
fi

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since Slurm 22.05 srun does not take it over from sbatch
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240           # of the 300 s after SIGTERM; torchrun kills after 30 if not told otherwise
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$PROCESSES" \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head:$PORT" \
  -m mirl search --data "$DATA" --out "$RUN" --levels-now 1 --time-limit "$TIME_LIMIT" \
  --precision bf16-mixed --compile "$@"
