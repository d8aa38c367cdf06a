#!/usr/bin/env bash
# Sets up .venv with the locked versions: scripts/install.sh [dev]
# Where there is no NVIDIA GPU it takes the CPU build of torch, which needs none of the gigabytes of CUDA libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:+[$1]}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $("$python" --version) is too old; Bloomery needs Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 1; }
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then lock=requirements/cuda.lock; else lock=requirements/cpu.lock; fi
torch=$(grep '^torch==' "$lock")
echo "installing into .venv with $lock"

if [ "$lock" = requirements/cpu.lock ] && [ "$(uname -s)" = Linux ] && ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  # A CPU build is called "+cpu". pip finds it where its own configuration knows of one; uv knows where torch publishes them.
  pip install -q "$torch+cpu" 2>/dev/null || {
    pip install -q uv && .venv/bin/python -m uv pip install -q --python .venv/bin/python --torch-backend cpu "$torch"
  } || { echo "error: no CPU build of $torch could be had; connect to the network, or put its wheel in a folder and set PIP_FIND_LINKS" >&2; exit 1; }
fi
pip install -q -c "$lock" -e ".$extra"
