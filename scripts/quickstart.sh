#!/usr/bin/env bash
# From nothing but Python and a package index to a trained captioner: environment, built-in data
# set, features, training, scores of held-out pictures, and one picture of what it says of them.
# Run it again and it skips what is done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
started=$SECONDS
run=runs/shapes
captioner=.venv/bin/captioner

if [[ -f $run/finished ]]; then
    echo "quickstart: $run is trained already" >&2
else
    "$captioner" prepare --config configs/shapes.yaml
    resume=()
    [[ ! -f $run/checkpoints/last.ckpt ]] || resume=(--resume "$run/checkpoints/last.ckpt")
    "$captioner" train --config configs/shapes.yaml ${resume[@]+"${resume[@]}"}
    touch "$run/finished"
fi
if [[ ! -f $run/scores.json ]]; then
    "$captioner" evaluate --checkpoint "$run/checkpoints/best.ckpt" --split test \
        --output "$run/scores.json" --captions "$run/captions.json" | tee "$run/scores.txt"
else
    cat "$run/scores.txt"
fi
echo
.venv/bin/python scripts/contact_sheet.py --checkpoint "$run/checkpoints/best.ckpt" \
    --output "$run/contact_sheet.png" --count 12
echo
echo "A picture of these is in $run/contact_sheet.png ($((SECONDS - started)) s after installation)."
echo "Try it:  $captioner caption data/shapes/test --checkpoint $run/checkpoints/best.ckpt"
