#!/usr/bin/env bash
# Everything that must hold: lint, format, spelling, types, documentation, tests (the slow ones too).
#   bash scripts/test.sh            what continuous integration runs
#   bash scripts/test.sh quick      without documentation and slow tests
#   WORKERS=4 bash scripts/test.sh  the quick tests in so many processes, for machines with cores to
#                                   spare; 1 is the default, because some tests measure time
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/codespell --toml pyproject.toml
.venv/bin/mypy
export WANDB_MODE=disabled
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # the tests' networks are too small to share out
quick=(.venv/bin/python -m pytest -q --durations=10)
if ((${WORKERS:-1} > 1)); then
    # A file stays in one process: its fixtures are made once.
    quick+=(--numprocesses "$WORKERS" --dist loadfile)
fi
"${quick[@]}"
if [[ "${1:-}" != quick ]]; then
    bash scripts/docs.sh
    # Where the browser can be installed, and in continuous integration, its tests must not be
    # skipped.
    if bash scripts/browser.sh || [[ -n "${CI:-}" || "$(id -u)" == 0 ]]; then
        export CAPTIONER_BROWSER=required
    fi
    .venv/bin/python -m pytest -q --durations=10 -m "slow and not gpu"
fi
