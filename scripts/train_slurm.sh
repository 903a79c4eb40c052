#!/usr/bin/env bash
#SBATCH --job-name=captioner
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=captioner-%j.log
# Train on several machines under SLURM, one task per GPU. Arguments go to `captioner train`.
#   sbatch scripts/train_slurm.sh --config configs/coco.yaml --output runs/coco
#   sbatch --nodes=4 scripts/train_slurm.sh …       more machines
#   DRY_RUN=1 bash scripts/train_slurm.sh …         print the command only
# Run `captioner prepare` once before. Two minutes before the time limit SLURM sends SIGTERM: training
# finishes its step, writes a checkpoint and ends with code 143, and the job is queued again. A job that
# starts again resumes from the run's last checkpoint.
set -euo pipefail
captioner=${CAPTIONER:-.venv/bin/captioner}
[[ -x $captioner ]] || captioner=captioner
command=(
    srun "$captioner" train "$@"
    --resume auto
    --trainer.accelerator gpu
    --trainer.num_nodes "${SLURM_NNODES:-2}"
    --trainer.devices "${SLURM_NTASKS_PER_NODE:-4}"
    --trainer.strategy ddp
)
if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "${command[@]}"
    echo
    exit
fi
trap '' TERM # the signal is for the tasks; this script waits for them
code=0
"${command[@]}" || code=$?
if ((code == 143)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
