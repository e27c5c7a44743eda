#!/usr/bin/env bash
# Lint, format, types, import contracts, dependencies. Silent when all is well. Argument: the bin folder of the venv.
set -uo pipefail
bin=$1
failed=0

quietly() {
    local output
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "== $*" "$output"
        failed=1
    fi
}

quietly "$bin/ruff" check --quiet .
quietly "$bin/ruff" format --check --quiet .
quietly "$bin/mypy" .
quietly "$bin/lint-imports" --no-cache
quietly "$bin/deptry" .
exit $failed
