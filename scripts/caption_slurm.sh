#!/usr/bin/env bash
#SBATCH --job-name=captions
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=captions-%A-%a.log
# Caption many photos in a job array, one share of an output folder per job. Arguments go to
# `captioner caption`, the same for all jobs; a job that starts again resumes its share.
#   sbatch --array=1-64 scripts/caption_slurm.sh --list photos.txt --output captions/
#   captioner merge captions/
#   SHARES=64 sbatch --array=7 scripts/caption_slurm.sh …   queue one of 64 shares again
#   DRY_RUN=1 SLURM_ARRAY_TASK_ID=1 SHARES=64 bash scripts/caption_slurm.sh …   print the command only
set -euo pipefail
captioner=${CAPTIONER:-.venv/bin/captioner}
[[ -x $captioner ]] || captioner=captioner
part=${SLURM_ARRAY_TASK_ID:?queue this script with sbatch --array=1-N}
command=(
    "$captioner" caption "$@"
    --workers "${SLURM_CPUS_PER_TASK:-8}"
    --share "$part/${SHARES:-${SLURM_ARRAY_TASK_COUNT:?}}"
)
if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "${command[@]}"
    echo
    exit
fi
exec "${command[@]}"
