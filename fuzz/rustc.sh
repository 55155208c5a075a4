#!/bin/sh
# Cargo's RUSTC_WRAPPER: what reads the bytes is instrumented for libFuzzer (the flags are cargo-fuzz's) and checks its sums;
# everything else is compiled as for the program. The program's own library is the largest of it: unoptimised and in several
# parts it is compiled sooner, and what it reads is small.
case " $* " in
  *" --crate-name peftbench "*) more="-Copt-level=0 -Ccodegen-units=8" ;;
  *" --crate-name peftbench"*) more=-Ccodegen-units=1 ;;
  *) exec "$@" ;;
esac
# shellcheck disable=SC2086
exec "$@" $more -Cdebug-assertions=on -Coverflow-checks=on -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
