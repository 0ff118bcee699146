#!/bin/sh
# Makes .venv: finds a Python, installs the pinned requirements and this checkout in editable form.
# PYTHON=/path/to/python chooses another interpreter than the first suitable one found.
set -eu
cd "$(dirname "$0")/.."

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
        if suits "$candidate"; then printf '%s\n' "$candidate"; return 0; fi
        if [ "$candidate" = "${PYTHON:-}" ]; then
            echo "PYTHON=$PYTHON is not a working Python 3.11, 3.12 or 3.13." >&2; return 1
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 found (tried python3, python3.13, python3.12, python3.11, python)." >&2
    echo "Install one (https://www.python.org/downloads/), or name it: make PYTHON=/path/to/python3.12 ..." >&2
    return 1
}

python=$(find_python) || exit 1
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$python has no venv or ensurepip module, so no environment can be made with it." >&2
    echo "On Debian and Ubuntu: apt install python$version-venv; elsewhere choose another: make PYTHON=... " >&2
    exit 1
fi

if [ -d .venv ] && ! suits .venv/bin/python; then
    echo "The .venv that is here does not work (any more): making a new one."
    rm -rf .venv
fi

quietly() { .venv/bin/python -m pip "$@" -qq --no-input --disable-pip-version-check; }

echo "Setting up .venv with $("$python" -V) (about a minute, and more for downloads) ..."
"$python" -m venv .venv
echo "  1/2 torch"
quietly install "torch==2.13.0" -c constraints.txt
echo "  2/2 everything else, as pinned in constraints.txt"
quietly install -e ".[dev]" -c constraints.txt
touch .venv/ready
echo "Done: .venv is ready."
