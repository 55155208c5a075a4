# What the scripts with real schedulers share: a tiny comparison, made here first, and what the scheduler's records are compared with.
# Set: peftbench, root (of the repository), place (a folder of their own).
skip() { # what PEFTBENCH_REQUIRE calls it, reason
    echo "skipped: $2"
    case ",${PEFTBENCH_REQUIRE:-}," in *,"$1",*) exit 1 ;; esac
    exit 0
}
say() { printf '%3ds  %s\n' $SECONDS "$1"; }
wait_for() { # seconds, what, command ...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "waited in vain for $what"; tail -n 20 "$place"/*.log; exit 1; }
        sleep 0.5
    done
}

# Writes the data and makes the comparison of three methods and three seeds here, into local/.
make_local_run() {
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
}

# What the first line of a claim says of its owner.
claim_says() { head -n 1 "$2" | sed "s/.*\"$1\":\"\{0,1\}\([0-9a-f]*\).*/\1/"; }

# Compares shared/ with local/: scheduler, and of a run whose node was lost, where one was, its name and the lost claim.
equal_but_for_costs() {
    "$peftbench" report --records local --json >local.json 2>/dev/null
    "$peftbench" report --records shared --json >shared.json 2>/dev/null
    python3 - "$@" <<'EOF'
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

scheduler, *lost = sys.argv[1:]
local, shared = records("local"), records("shared")
assert local.keys() == shared.keys() and len(local) == 9, (len(local), len(shared))
for name, record in local.items():
    other = shared[name]
    assert record["status"] == other["status"] == {"is": "ok"}
    assert record["asked"] == other["asked"] and record["outcome"] == other["outcome"], name
    assert other["circumstances"]["task"].startswith(scheduler), other["circumstances"]
if lost:
    run, nonce = lost
    assert shared[run + ".json"]["circumstances"]["claim"] != nonce, "the run of the lost node was made by it all the same"
a, b = json.load(open("local.json")), json.load(open("shared.json"))
assert list(map(without_costs, a)) == list(map(without_costs, b))
print("      9 records and the report are equal but for costs")
EOF
}
