#!/bin/sh
# Runs interop.py against the real Python libraries.
#
# PEFTBENCH_PYTHON names a Python that has them (tests/fixtures/requirements.txt); without it they are installed into a
# throw-away environment, a download of 2.5 GB. Where they cannot be had, the reason is printed and the run is skipped;
# where PEFTBENCH_REQUIRE names interop that is a failure. Further arguments go to interop.py.
set -eu
cd "$(dirname "$0")/../.."

skip() {
    echo "interop: skipped: $1"
    case ",${PEFTBENCH_REQUIRE:-}," in *,interop,*) exit 1 ;; esac
    exit 0
}

if [ -n "${PEFTBENCH_PYTHON:-}" ]; then
    python=$PEFTBENCH_PYTHON
else
    command -v python3 >/dev/null || skip "there is no python3"
    venv=$(mktemp -d)
    trap 'rm -rf "$venv"' EXIT
    python3 -m venv "$venv" || skip "python3 cannot make an environment"
    "$venv/bin/pip" install --quiet --requirement tests/fixtures/requirements.txt ||
        skip "the libraries of tests/fixtures/requirements.txt cannot be installed"
    python=$venv/bin/python
fi
"$python" -c 'import torch, transformers, peft, adapters' 2>/dev/null ||
    skip "$python has no torch, transformers, peft and adapters"

# As the tests build it: `cargo build` alone resolves other features and compiles every dependency again.
cargo test --quiet --workspace --test main --no-run
folder=$(cargo metadata --no-deps --format-version 1 | "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
binary=$folder/debug/peftbench

# SmolLM2 trained on both sides, LoRA and prompt tuning: their accuracies may be 1.5 points apart. Half an hour on 2 cores.
if [ -n "${PEFTBENCH_INTEROP_SMOLLM2:-}" ]; then
    PEFTBENCH_PYTHON=$python cargo bench --quiet --bench bench -- peer smollm2-135m --accuracy
fi

# The large case takes minutes and needs files that are large: only where it is asked for and they are already here.
set -- --binary "$binary" --table docs/COMPATIBILITY.md "$@"
cache=${PEFTBENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/peftbench}
minilm=$(find "$cache/packages" -path '*minilm*' -name model.safetensors 2>/dev/null | head -n 1)
sst2=$(find "${HF_HOME:-$HOME/.cache/huggingface}/hub" -path '*glue*/sst2/train*' 2>/dev/null | head -n 1)
if [ -n "${PEFTBENCH_INTEROP_SST2:-}" ] && [ -n "$minilm" ] && [ -n "$sst2" ]; then
    set -- --minilm "$(dirname "$minilm")" --sst2 "$(dirname "$sst2")" "$@"
fi
"$python" tests/interop/interop.py "$@"
