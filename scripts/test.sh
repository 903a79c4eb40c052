#!/usr/bin/env bash
# Everything that must hold: lint, format, spelling, types, tests (the slow ones too).
# `bash scripts/test.sh quick` leaves the slow tests out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/codespell --toml pyproject.toml
.venv/bin/mypy
export WANDB_MODE=disabled
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # the tests' networks are too small to share out
if [[ "${1:-}" == quick ]]; then
    .venv/bin/python -m pytest -q
else
    .venv/bin/python -m pytest -q -m "not gpu"
fi
