#!/bin/sh
# A study's trials as a Slurm job array, a trial a task. In the project's folder, which lies where
# all nodes see it:
#
#   sbatch --array=1-$(.venv/bin/dsstudy trials FILE --commands | wc -l) cluster/slurm.sh FILE
#
# A Slurm array has fewer tasks than MaxArraySize, 1,001 unless the cluster sets it (see scontrol
# show config). Of a study with more trials, submit several arrays: OFFSET is added to a task's
# number, so that the second thousand is
#
#   sbatch --array=1-1000 --export=ALL,OFFSET=1000 cluster/slurm.sh FILE
#
# FILE may be followed by --only and --set, in both places alike. A task has two cores, if sbatch is
# told nothing else. Where trials need unlike things, make an array of each kind; with GPUs:
#
#   ... --gres=gpu:1 ... cluster/slurm.sh FILE --only engine=normal
#   ... --gres=gpu:2 ... cluster/slurm.sh FILE --only engine=deepspeed
#
# Every task reads FILE when it starts: leave it as it is until the last one has.
#SBATCH --cpus-per-task=2
# A trial whose node is lost goes back into the queue, and on from its checkpoint; its log goes on.
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu
task="${SLURM_ARRAY_TASK_ID:?is not set: submit this with sbatch --array=..., as its first lines say}"
trial=$((task + ${OFFSET:-0}))
export PATH="$PWD/.venv/bin:$PATH"
# A trial takes no more threads than Slurm gave it cores, over all of its processes.
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
lines=$(dsstudy trials "$@" --commands)  # by itself, so that its failure ends the task
line=$(printf '%s\n' "$lines" | sed -n "${trial}p")
exec sh -c "${line:?is empty: the study has no trial number $trial}"
