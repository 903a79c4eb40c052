#!/usr/bin/env bash
# Make the environment .venv from the lock file, once. Needs Python (3.11 or later) and a package
# index, as pip is set up on this machine. Source it or run it; a finished environment is kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
lock_digest=$("$python" - <<'PY'
import hashlib, pathlib
parts = [pathlib.Path(name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
print(hashlib.sha256(b"".join(parts)).hexdigest())
PY
)
if [[ -x .venv/bin/captioner && "$(cat .venv/installed 2>/dev/null)" == "$lock_digest" ]]; then
    exit 0
fi
echo "setup: making the environment in .venv" >&2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: Python 3.11 or later is needed; name one with PYTHON=…" >&2
    exit 1
}
[[ -x .venv/bin/python ]] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
# uv installs what pip would, ten times as fast. Hashes in the lock file are checked.
.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode -r requirements.lock
# The build backend is in the lock file too.
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
echo "$lock_digest" > .venv/installed
