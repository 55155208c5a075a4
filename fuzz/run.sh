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
found=0
for reader in "$@"; do
  mkdir -p "$here/artifacts/$reader"
  echo "== $reader"
  PEFTBENCH_FUZZ=$reader "$target/release/peftbench-fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$here/artifacts/$reader/" "$here/corpus/$reader" 2>&1 |
    grep -E 'stat::number_of_executed_units|stat::new_units_added|stat::peak_rss_mb|panicked|ERROR|SUMMARY|artifacts' || true
  [ -z "$(ls "$here/artifacts/$reader")" ] || found=1
done
exit $found
