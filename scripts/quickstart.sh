#!/usr/bin/env bash
# From nothing but Python and a package index to captions. Run it again and it skips what is done.
#   bash scripts/quickstart.sh                        caption a photo that came with a package
#   bash scripts/quickstart.sh photo.jpg holiday/     caption these
#   bash scripts/quickstart.sh --train                train on drawn scenes instead: minutes on 2 cores
# Prints a caption for each photo, and the path of a picture that shows them.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh"
python=$root/.venv/bin/python
captioner=$root/.venv/bin/captioner
started=$SECONDS

if [[ "${1:-}" != --train ]]; then
    sheet=$root/runs/quickstart/captions.png
    if (($# == 0)); then
        set -- "$root"/.venv/lib/python3*/site-packages/matplotlib/mpl-data/sample_data/grace_hopper.jpg
    fi
    code=0
    "$python" "$root/scripts/contact_sheet.py" --count 60 --output "$sheet" -- "$@" || code=$?
    if ((code <= 1)) && [[ -f $sheet ]]; then
        echo
        echo "A picture of these is in $sheet ($((SECONDS - started)) s after installation)."
        echo "Your photos:  bash scripts/quickstart.sh photo.jpg holiday/"
        echo "Or:           .venv/bin/captioner caption photo.jpg holiday/"
    fi
    exit "$code"
fi

cd "$root"
run=runs/shapes
if [[ -f $run/finished ]]; then
    echo "quickstart: $run is trained already" >&2
else
    "$captioner" prepare --config shapes
    "$captioner" train --config shapes --resume auto
    touch "$run/finished"
fi
if [[ ! -f $run/scores.json ]]; then
    "$captioner" evaluate --checkpoint "$run/checkpoints/best.ckpt" --split test \
        --output "$run/scores.json" --captions "$run/captions.json" | tee "$run/scores.txt"
else
    cat "$run/scores.txt"
fi
echo
"$python" scripts/contact_sheet.py --checkpoint "$run/checkpoints/best.ckpt" \
    --output "$run/contact_sheet.png" --count 12
echo
echo "A picture of these is in $run/contact_sheet.png ($((SECONDS - started)) s after installation)."
echo "Try it:  .venv/bin/captioner caption data/shapes/test --checkpoint $run/checkpoints/best.ckpt"
