#!/usr/bin/env bash
# Resolves requirements/{cpu,cuda}.lock from pyproject.toml. Both hold the same torch, so that results can be compared.
# Needs an index, or a folder in PIP_FIND_LINKS, that has torch's CPU build.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install -q uv
torch=$(grep '^torch==' requirements/cpu.lock)
resolve() {  # resolve LOCK TORCH TITLE [OPTION…]
  local lock=$1 pin=$2 title=$3; shift 3
  { echo "# Versions for machines $title an NVIDIA GPU: constraints for pip, written by \`make lock\`."
    echo "$pin" | .venv/bin/python -m uv pip compile pyproject.toml --extra dev --extra bench --extra cluster --universal --python-version 3.11 --quiet \
      --no-header --no-annotate -c - "$@" | sed 's/^\(torch==[0-9.]*\)+cpu/\1/'; } > "$lock.new"
  mv "$lock.new" "$lock"
}
resolve requirements/cpu.lock "$torch+cpu" without ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"}
resolve requirements/cuda.lock "$torch" with
