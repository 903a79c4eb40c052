#!/usr/bin/env bash
# Train on this machine under torchrun: if a process dies, all restart from the run's last checkpoint.
# Arguments go to `captioner train`; rerun the same command to resume.
#   bash scripts/train_elastic.sh --config configs/coco.yaml --output runs/coco
#   DEVICES=2 ACCELERATOR=cpu bash scripts/train_elastic.sh …   two processes on a CPU
#   RESTARTS=10 bash scripts/train_elastic.sh …                 restart at most 10 times (default 3)
#   DRY_RUN=1 bash scripts/train_elastic.sh …                   print the command only
# Several machines: give torchrun its --nnodes, --rdzv-backend and --rdzv-endpoint in TORCHRUN_ARGS,
# and `captioner train` --trainer.num_nodes. A death loses at most `checkpoint.every_steps` steps.
set -euo pipefail
bin=${BIN:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin}
torchrun=$bin/torchrun
[[ -x $torchrun ]] || torchrun=torchrun
devices=${DEVICES:-$(nvidia-smi --list-gpus | wc -l)}
# Each start needs its own store: in torchrun's shared one, restarted processes find the addresses of
# dead ones.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
read -r -a more <<<"${TORCHRUN_ARGS:---standalone}"
command=(
    "$torchrun" "${more[@]}" --nproc-per-node "$devices" --max-restarts "${RESTARTS:-3}"
    -m captioner train "$@"
    --resume auto
    --trainer.accelerator "${ACCELERATOR:-gpu}"
    --trainer.devices "$devices"
    --trainer.strategy ddp
)
if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "${command[@]}"
    echo
else
    exec "${command[@]}"
fi
