#!/usr/bin/env bash
# Renew requirements.lock: every package the project, its extras and its developers need, with
# versions and hashes and without addresses, for Python 3.11 and later on Linux, macOS and Windows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-annotate --quiet --upgrade \
    --custom-compile-command "bash scripts/lock.sh" --output-file requirements.lock "$@"
