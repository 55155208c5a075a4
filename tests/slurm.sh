#!/usr/bin/env bash
# A tiny comparison as a job array on a real Slurm with two nodes on this machine: a task is killed, then a node is lost in the
# midst of a run. In the end every run has its record, and the report is that of a local run but for costs.
# Usage: tests/slurm.sh PEFTBENCH. Needs root and Debian's Slurm, which it installs; without them it says why it is skipped.
set -euo pipefail
peftbench=$(realpath "$1")
root=$(cd "$(dirname "$0")/.." && pwd)

skip() {
    echo "skipped: $1"
    case ",${PEFTBENCH_REQUIRE:-}," in *,slurm,*) exit 1 ;; esac
    exit 0
}
[ "$(id -u)" = 0 ] || skip "slurmctld and slurmd need root here"
if ! command -v slurmctld slurmd sbatch munged >/dev/null; then
    command -v apt-get >/dev/null || skip "neither Slurm nor apt-get is there"
    (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        slurmctld slurmd slurm-client munge) >/dev/null 2>&1 || skip "Slurm cannot be installed with apt-get"
fi

place=$(mktemp -d)
chmod 755 "$place"
finish() {
    scancel --user=root >/dev/null 2>&1 || true
    sleep 1
    for pid in $(cat "$place"/*.pid "$place"/munge/*.pid 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$place"
}
trap finish EXIT
say() { printf '%3ds  %s\n' $SECONDS "$1"; }

# A munged of its own, as its user, with a key of its own.
mkdir -m 711 "$place/munge"
head -c 128 /dev/urandom >"$place/munge/key"
chmod 600 "$place/munge/key"
chown -R munge: "$place/munge"
chmod 711 "$place/munge"
su -s /bin/sh munge -c "/usr/sbin/munged --force --key-file=$place/munge/key --socket=$place/munge/socket \
    --pid-file=$place/munge/munged.pid --log-file=$place/munge/log --seed-file=$place/munge/seed" >/dev/null 2>&1

host=$(hostname -s)
export SLURM_CONF=$place/slurm.conf
cat >"$SLURM_CONF" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge/socket
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool-%n
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd-%n.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd-%n.log
SlurmctldPort=16817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MaxArraySize=4
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
EOF
mkdir "$place/state"
wait_for() { # seconds, what, command ...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "waited in vain for $what"; tail -n 20 "$place"/*.log; exit 1; }
        sleep 0.5
    done
}
wait_for 20 munged test -S "$place/munge/socket"
slurmctld -c -i
slurmd -N n1 -c
slurmd -N n2 -c
idle() { [ "$(sinfo -h -N -t idle -o %N | wc -l)" = 2 ]; }
wait_for 30 "two idle nodes" idle
say "Slurm $(slurmctld -V | cut -d' ' -f2) with two nodes"

cd "$place"
export HF_HOME=$place/hf HF_HUB_OFFLINE=1 PEFTBENCH_CACHE=$place/cache
{
    echo review,stars
    for i in $(seq 0 2 238); do echo "good fine great number $i,up"; echo "bad poor awful number $((i + 1)),down"; done
} >reviews.csv
comparison=(compare reviews.csv --text-column review --label-column stars --backbone "$root/tests/fixtures/bert"
    --budget quick --set "recipe.steps=${STEPS:-5000}" --set recipe.evaluations=2 --set recipe.batch=8
    --methods lora,ia3,bitfit --seeds 3)
"$peftbench" "${comparison[@]}" --out local --threads 1 --quiet >/dev/null
say "local run made"

"$peftbench" "${comparison[@]}" --out shared --submit --per-task 2 -- --cpus-per-task=1
claim() { ls shared/records/*.claim >/dev/null 2>&1; }
wait_for 60 "a claim" claim
"$peftbench" status shared | sed 's/^/      /'

# kill -9 of a task: its exit code asks for another try.
claim_says() { head -n 1 "$2" | sed "s/.*\"$1\":\"\{0,1\}\([0-9a-f]*\).*/\1/"; }
pid=$(claim_says pid "$(ls shared/records/*.claim | head -n 1)")
kill -9 "$pid"
say "task's process $pid killed"
queued_again() { squeue -h -r -o '%r' | grep -q BeginTime; }
wait_for 60 "the task to be queued again" queued_again
say "it is queued again"

# A node is lost in the midst of a run, as if its power failed: its slurmd, the step's own daemon and the task end at once, and
# nobody reports to slurmctld. `lost` holds the processes from slurmstepd down to the run's.
busy_n2() {
    task=$(squeue -h -r -t R -w n2 -o '%F_%K' | head -n 1)
    [ -n "$task" ] || return 1
    claimed=$(grep -ls "\"task\":\"slurm $task\"" shared/records/*.claim | head -n 1)
    [ -n "$claimed" ] || return 1
    local pid
    pid=$(claim_says pid "$claimed")
    nonce=$(claim_says nonce "$claimed")
    lost=($(cat "/proc/$pid"/task/*/children 2>/dev/null))
    while [ "${pid:-1}" -gt 1 ]; do
        lost=("$pid" "${lost[@]}")
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != slurmstepd ] || return 0
        pid=$(sed 's/.*) . \([0-9]*\) .*/\1/' "/proc/$pid/stat" 2>/dev/null)
    done
    return 1
}
wait_for 90 "a run on node n2" busy_n2
kill -9 "$(cat slurmd-n2.pid)" "${lost[@]}"
run=$(basename "$claimed" .claim)
say "node n2 lost: its slurmd and the ${#lost[@]} processes of task $task, in the midst of run $run"
down() { sinfo -h -N -n n2 -o %T | grep -q down; }
wait_for 60 "node n2 to be down" down
requeued() { grep -q "$task.*due to failure of node n2\|due to failure of node n2.*$task" slurmctld.log; }
wait_for 30 "task $task to be queued again" requeued
say "Slurm counts n2 as lost and has queued task $task again"
rm -f slurmd-n2.pid
slurmd -N n2 -c
say "slurmd of n2 started again"

# Slurm lets tasks that are queued again wait for two minutes; nobody has that long here.
hurry() {
    for job in $(squeue -h -r -t PD -o '%i %r' | awk '$2 == "BeginTime" { print $1 }'); do
        scontrol update "JobId=$job" StartTime=now
    done
}
runs_again() {
    hurry
    scontrol -o show job "$task" | grep -q 'JobState=\(RUNNING\|COMPLETED\) .*Restarts=[1-9]'
}
wait_for 90 "task $task to run again" runs_again
say "task $task runs again"

all_ended() {
    hurry
    [ -z "$(squeue -h -o %A)" ]
}
wait_for 240 "all jobs to end" all_ended
"$peftbench" status shared | sed 's/^/      /'
say "all jobs have ended"
tail -n 20 shared/plan/logs/[0-9]*_*.log | sed 's/^/      /'
grep -i "requeu\|not responding, setting DOWN" slurmctld.log | sed 's/^/      /'

"$peftbench" report --records local --json >local.json 2>/dev/null
"$peftbench" report --records shared --json >shared.json 2>/dev/null
test -s shared/report.html || { echo "the last job made no report"; exit 1; }
python3 - "$run" "$nonce" <<'EOF'
import glob, json, os, sys

def records(folder):
    return {os.path.basename(p): json.load(open(p)) for p in glob.glob(f"{folder}/records/*.json")}

def without_costs(comparison):
    costs = ("second", "latency", "memory", "busy", "resident", "costs", "needs", "words", "notes")
    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if not any(c in k for c in costs)}
        return [strip(v) for v in value] if isinstance(value, list) else value
    return strip({k: comparison[k] for k in ("rows", "pairs", "seeds", "name")})

local, shared = records("local"), records("shared")
assert local.keys() == shared.keys() and len(local) == 9, (len(local), len(shared))
for name, record in local.items():
    other = shared[name]
    assert record["status"] == other["status"] == {"is": "ok"}
    assert record["asked"] == other["asked"] and record["outcome"] == other["outcome"], name
    assert other["circumstances"]["task"].startswith("slurm "), other["circumstances"]
run, nonce = sys.argv[1:]
assert shared[run + ".json"]["circumstances"]["claim"] != nonce, "the run of the lost node was made by it all the same"
a, b = json.load(open("local.json")), json.load(open("shared.json"))
assert list(map(without_costs, a)) == list(map(without_costs, b))
print("      9 records and the report are equal but for costs")
EOF
say "passed"
