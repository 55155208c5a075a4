#!/bin/sh
# Cargo's RUSTC_WRAPPER: what reads the bytes is instrumented for libFuzzer (the flags are cargo-fuzz's) and checks its sums;
# everything else is compiled as for the program.
case " $* " in
  *" --crate-name peftbench"*)
    exec "$@" -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on -Cpasses=sancov-module \
      -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
      -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
