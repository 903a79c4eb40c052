#!/usr/bin/env bash
# Build the documentation site into site/. A warning (a dead link, an unknown name) is an error.
# `bash scripts/docs.sh serve` shows it at http://127.0.0.1:8000 and rebuilds after each change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdocs=${MKDOCS:-.venv/bin/mkdocs}
if [[ ! -x $mkdocs ]]; then
    bash scripts/setup.sh
fi
export NO_MKDOCS_2_WARNING=1  # an announcement, not about these pages
if [[ "${1:-}" == serve ]]; then
    exec "$mkdocs" serve
fi
exec "$mkdocs" build --strict --quiet
