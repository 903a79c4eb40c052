#!/usr/bin/env bash
# What the tests of pages (tests/browser/) need: Chromium, and axe-core, which checks that a page can
# be used without a mouse or good eyes. axe-core is the reference for that and knows some hundred
# rules, so it is fetched into .venv rather than written again; the project has no copy of it.
# Fails, with a line that says why, where something cannot be installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

axe=4.14.1
mac="/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"

fail() {
    echo "browser: $1; the tests of pages are skipped" >&2
    exit 1
}

install() {  # install PACKAGE, from Debian
    command -v apt-get >/dev/null || fail "$1 is missing; install it"
    [[ "$(id -u)" == 0 ]] || fail "$1 is missing, and only root may install it: apt-get install $1"
    echo "browser: installing $1" >&2
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$1"; } >/dev/null 2>&1 ||
        fail "apt-get install $1 failed"
}

command -v chromium chromium-browser google-chrome "$mac" >/dev/null || install chromium
if [[ ! -f .venv/axe-core/axe.min.js || "$(cat .venv/axe-core/version 2>/dev/null)" != "$axe" ]]; then
    command -v npm >/dev/null || install npm
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    # npm checks the archive against the registry's digest. `pack` runs no script of the package.
    npm pack --silent --pack-destination "$folder" "axe-core@$axe" >/dev/null ||
        fail "npm cannot fetch axe-core $axe"
    tar -xzf "$folder/axe-core-$axe.tgz" -C "$folder" package/axe.min.js package/LICENSE
    rm -rf .venv/axe-core
    mv "$folder/package" .venv/axe-core
    echo "$axe" >.venv/axe-core/version
fi
