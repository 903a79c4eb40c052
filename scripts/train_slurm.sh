#!/usr/bin/env bash
#SBATCH --job-name=captioner
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=SIGUSR1@90
#SBATCH --output=captioner-%j.log
# Train on several machines under SLURM; one task a GPU. Arguments go to `captioner train`.
#   sbatch scripts/train_slurm.sh --config configs/coco.yaml --output runs/coco
#   sbatch --nodes=4 scripts/train_slurm.sh …       more machines
#   DRY_RUN=1 bash scripts/train_slurm.sh …         says what it would run
# Run `captioner prepare` once before. Ninety seconds before the time is up Lightning is told, by the
# signal above, to save and to queue the job again.
set -euo pipefail
captioner=${CAPTIONER:-.venv/bin/captioner}
[[ -x $captioner ]] || captioner=captioner
command=(
    srun "$captioner" train "$@"
    --trainer.accelerator gpu
    --trainer.num_nodes "${SLURM_NNODES:-2}"
    --trainer.devices "${SLURM_NTASKS_PER_NODE:-4}"
    --trainer.strategy ddp
)
if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "${command[@]}"
    echo
else
    exec "${command[@]}"
fi
