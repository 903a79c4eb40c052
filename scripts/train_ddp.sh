#!/usr/bin/env bash
# Train on all GPUs of this machine (or DEVICES of them). Arguments go to `captioner train`.
#   bash scripts/train_ddp.sh --config configs/coco.yaml --output runs/coco
#   DEVICES=2 ACCELERATOR=cpu bash scripts/train_ddp.sh …      two processes on a CPU
#   DRY_RUN=1 bash scripts/train_ddp.sh …                      print the command only
# data.batch_size is for each device: with N devices a step sees N times as many photos.
set -euo pipefail
captioner=${CAPTIONER:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/captioner}
[[ -x $captioner ]] || captioner=captioner
command=(
    "$captioner" train "$@"
    --trainer.accelerator "${ACCELERATOR:-gpu}"
    --trainer.devices "${DEVICES:-auto}"
    --trainer.strategy ddp
)
if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "${command[@]}"
    echo
else
    exec "${command[@]}"
fi
