#!/usr/bin/env bash
# One data set of study/real/dvc.yaml as a SLURM array: a task trains and evaluates one run.
#
#     mkdir -p runs && sbatch docs/slurm_array.sh cub             # prepare first, see many_runs.md
#     sbatch --dependency=afterok:JOBID --array=0 docs/slurm_array.sh cub report
#
# Start it from the root of the repository, on a file system that all nodes share. The array counts
# the runs of study/params/real.yaml: two methods and three seeds are six. With DRY=1 in the environment
# it only says what it would run.
#SBATCH --job-name=wsol
#SBATCH --array=0-5
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=48G
#SBATCH --time=24:00:00
#SBATCH --output=runs/slurm-%A_%a.txt
#SBATCH --requeue
set -euo pipefail

pipeline=study/real/dvc.yaml
dataset=${1:?which data set: cub, ilsvrc or openimages}
step=${2:-runs}
cd "${SLURM_SUBMIT_DIR:-.}"
PATH="$PWD/.venv/bin:$PATH"

repro() {
    echo "dvc repro -s $*"
    test -n "${DRY:-}" || python -m dvc --wait-for-lock repro --single-item "$@"
}

if [ "$step" = report ]; then
    repro "$pipeline:report@$dataset"
    exit
fi

# The trainings of this data set, in an order that does not depend on the task.
mapfile -t trainings < <(python -m dvc stage list --name-only "$pipeline" \
    | sed 's/.*://' | grep -E "^train[a-z_]*@$dataset-" | sort)
task=${SLURM_ARRAY_TASK_ID:?not in a SLURM array}
runs=${#trainings[@]}
if [ "$task" -ge "$runs" ]; then
    echo "task $task: $dataset has $runs runs, give sbatch --array=0-$((runs - 1))" >&2
    exit 2
fi
training=${trainings[$task]}

# A run that was cut off goes on from its last state: submit its task again.
repro "$pipeline:$training" "$pipeline:evaluate@${training#*@}"
