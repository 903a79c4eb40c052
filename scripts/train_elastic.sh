#!/usr/bin/env bash
# Train on this machine under torchrun: when a process dies, all are started again, from the run's
# last checkpoint. Arguments go to `captioner train`; a run that was stopped goes on by the same call.
#   bash scripts/train_elastic.sh --config configs/coco.yaml --output runs/coco
#   DEVICES=2 ACCELERATOR=cpu bash scripts/train_elastic.sh …   two processes on a CPU
#   RESTARTS=10 bash scripts/train_elastic.sh …                 starts again at most 10 times; 3
#   DRY_RUN=1 bash scripts/train_elastic.sh …                   says what it would run
# Several machines: give torchrun its --nnodes, --rdzv-backend and --rdzv-endpoint in TORCHRUN_ARGS,
# and `captioner train` --trainer.num_nodes. `checkpoint.every_steps` is what a death may cost.
set -euo pipefail
bin=${BIN:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin}
torchrun=$bin/torchrun
[[ -x $torchrun ]] || torchrun=torchrun
devices=${DEVICES:-$(nvidia-smi --list-gpus | wc -l)}
# A store of its own for each start: in the one that torchrun shares, processes started again find the
# addresses of the dead.
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
