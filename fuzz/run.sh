#!/usr/bin/env bash
# Fuzzes each reader for so many seconds (default 600), or those that are named: fuzz/run.sh [SECONDS [READER ...]]
# Needs a C++ compiler for libFuzzer; any Rust that builds the program. Exit code 1 where something was found.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-600}
shift || true
# The versions and the profile of the program: what it needs is compiled already then, all but what is instrumented.
target=${CARGO_TARGET_DIR:-$here/../target}
mkdir -p "$target"
[ -e "$here/Cargo.lock" ] || cp "$here/../Cargo.lock" "$here/Cargo.lock"
awk '/^\[/ { on = /^\[profile\.release/ } on' "$here/../Cargo.toml" > "$target/fuzz-profile.toml"
RUSTC_WRAPPER="$here/rustc.sh" cargo build --quiet --release --config "$target/fuzz-profile.toml" \
  --manifest-path "$here/Cargo.toml" --target-dir "$target"
python3 "$here/seeds.py" "$here/corpus"
[ $# -gt 0 ] || set -- $(ls "$here/corpus")
# Files of a few bytes, thousands in a second: in memory, where the system has a place for that.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
# One reader for each core, one thread each.
export PEFTBENCH_THREADS=1 RAYON_NUM_THREADS=1 POLARS_MAX_THREADS=1
fuzz() {
  mkdir -p "$here/artifacts/$1"
  said=$(PEFTBENCH_FUZZ=$1 "$target/release/peftbench-fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$here/artifacts/$1/" "$here/corpus/$1" 2>&1 |
    grep -E 'stat::number_of_executed_units|stat::new_units_added|stat::peak_rss_mb|panicked|ERROR|SUMMARY|artifacts' || true)
  printf '== %s\n%s\n' "$1" "$said"
  [ -z "$(ls "$here/artifacts/$1")" ]
}
export -f fuzz
export here target seconds
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}' || exit 1
