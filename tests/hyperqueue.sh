#!/usr/bin/env bash
# The same tiny comparison by a real HyperQueue with two workers on this machine: the lines of hq.sh as they are written; one worker is
# killed in the midst of a run. In the end every run has its record, and the report is that of a local run but for costs.
# Usage: tests/hyperqueue.sh PEFTBENCH. HyperQueue comes from pip; where that has none it says so.
set -euo pipefail
peftbench=$(realpath "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/cluster_case.sh
. "$root/tests/cluster_case.sh"
place=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$place"
}
trap finish EXIT
python3 -m venv "$place/venv" >/dev/null 2>&1 && "$place/venv/bin/pip" install --quiet hyperqueue==0.27.0 >/dev/null 2>&1 ||
    skip hyperqueue "HyperQueue cannot be installed with pip"
export PATH=$place/venv/bin:$PATH HQ_SERVER_DIR=$place/hq
command -v hq >/dev/null || skip hyperqueue "the package of HyperQueue holds no hq"
make_local_run
hq server start >"$place/server.log" 2>&1 &
started+=($!)
wait_for 20 "the server" hq server info >/dev/null 2>&1
for worker in 1 2; do
    hq worker start --cpus 1 >"$place/worker$worker.log" 2>&1 &
    started+=($!)
done
say "HyperQueue $(hq --version | cut -d' ' -f2) with two workers"
"$peftbench" "${comparison[@]}" --out shared --plan-only shared/plan --per-task 2 >/dev/null
sh shared/plan/hq.sh
claim() { ls shared/records/*.claim >/dev/null 2>&1; }
wait_for 60 "a claim" claim
claimed=$(ls shared/records/*.claim | head -n 1)
run=$(basename "$claimed" .claim) nonce=$(claim_says nonce "$claimed")
kill -9 "${started[1]}" "$(claim_says pid "$claimed")"
say "a worker and the task of run $run killed"
hq worker start --cpus 1 >"$place/worker3.log" 2>&1 &
started+=($!)
hq job wait all >/dev/null 2>&1 || true
"$peftbench" status shared | sed 's/^/      /'
equal_but_for_costs hyperqueue "$run" "$nonce"
say "passed"
