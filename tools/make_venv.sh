#!/usr/bin/env bash
# Make a virtual environment, or say in one line what is missing. Arguments: the Python to use, the folder.
set -euo pipefail
python=$1 folder=$2

if ! command -v "$python" >/dev/null; then
    echo "no $python here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$python" --version) is too old: Phosphene needs Python 3.11 or newer (make PYTHON=/path/to/python3.11)" >&2
    exit 1
fi
# Debian and Ubuntu split ensurepip off into a package of its own.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        echo "this Python can't make virtual environments: sudo apt-get install python3-venv" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
