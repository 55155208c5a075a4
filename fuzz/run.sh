#!/usr/bin/env bash
# Fuzzes each reader for so many seconds (default 600), or those that are named: fuzz/run.sh [SECONDS [READER ...]]
# Needs a C++ compiler; nightly Rust, or what stands in for it below.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-600}
shift || true
export RUSTC_BOOTSTRAP=1
# The same versions as the program.
[ -e "$here/Cargo.lock" ] || cp "$here/../Cargo.lock" "$here/Cargo.lock"
cargo build --quiet --manifest-path "$here/Cargo.toml"
program=${CARGO_TARGET_DIR:-$here/target}/debug/peftbench-fuzz
python3 "$here/seeds.py" "$here/corpus"
[ $# -gt 0 ] || set -- $(ls "$here/corpus")
found=0
for reader in "$@"; do
  mkdir -p "$here/artifacts/$reader"
  echo "== $reader"
  PEFTBENCH_FUZZ=$reader "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="$here/artifacts/$reader/" "$here/corpus/$reader" 2>&1 |
    grep -E 'stat::number_of_executed_units|stat::peak_rss_mb|panicked|ERROR|SUMMARY|artifacts' || true
  [ -z "$(ls "$here/artifacts/$reader")" ] || found=1
done
exit $found
