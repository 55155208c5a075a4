# Extra flags go behind the data set: just compare sst2 --methods lora,adapter --seeds 5

# List the recipes.
default:
    @just --list

# Train the standard methods on a data set over one frozen backbone and report; --methods all: all of them.
compare dataset *flags:
    cargo run --release --quiet -- compare {{ dataset }} {{ flags }}

# The same with 150 steps and one seed: a look in a few minutes.
quick dataset *flags:
    cargo run --release --quiet -- compare {{ dataset }} --budget quick {{ flags }}

# Vary one thing and draw the curve: just sweep sst2 --study prompt_length (peftbench list studies).
sweep dataset *flags:
    cargo run --release --quiet -- sweep {{ dataset }} {{ flags }}

# Search each method's settings with the same number of trials, then train the best over fresh seeds.
tune dataset *flags:
    cargo run --release --quiet -- tune {{ dataset }} {{ flags }}

# Install the program with completions (bash, zsh, fish) and the manual for this user.
install:
    #!/usr/bin/env bash
    set -euo pipefail
    root="${CARGO_INSTALL_ROOT:-${CARGO_HOME:-$HOME/.cargo}}"
    cargo install --locked --path . --root "$root"
    program="$root/bin/peftbench"
    share="${XDG_DATA_HOME:-$HOME/.local/share}"
    config="${XDG_CONFIG_HOME:-$HOME/.config}"
    mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$config/fish/completions"
    "$program" completions bash > "$share/bash-completion/completions/peftbench"
    "$program" completions zsh > "$share/zsh/site-functions/_peftbench"
    "$program" completions fish > "$config/fish/completions/peftbench.fish"
    "$program" man "$share/man/man1"
    echo "zsh: add fpath+=($share/zsh/site-functions) before compinit"

# Build the wheel: the program and the Python package, for pip (into target/wheels).
wheel *flags:
    test -d target/maturin || python3 -m venv target/maturin
    target/maturin/bin/pip install --quiet 'maturin>=1.8,<2'
    target/maturin/bin/maturin build --profile dist --locked {{ flags }}

# Build the wheel, install it into a fresh environment and run it there.
wheel-test: wheel
    PEFTBENCH_REQUIRE=wheel cargo test --test main wheel:: -- --nocapture

# Compile what is written for each processor for ARM too, where that target can be installed.
cross target="aarch64-unknown-linux-gnu":
    #!/usr/bin/env bash
    set -euo pipefail
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/{{ target }}" ] && ! rustup target add {{ target }}; then
        echo "cross: skipped: rustup cannot install the standard library for {{ target }}"
        exit 0
    fi
    cargo check --package peftbench-kernels --target {{ target }}

# Make the report again from the records that exist.
report *flags:
    cargo run --release --quiet -- report {{ flags }}

# Copy a comparison's records, studies and searches, compressed, so that peftbench report --records TO makes the same report again.
keep-records from to:
    mkdir -p {{ to }}
    cd {{ from }} && find . \( -path '*/records/*.json' -o -name judging.json -o -name suite.json -o -name study.json -o -name tuning.json -o -name measurement.json \) -print0 | tar --create --null --files-from - | tar --extract --directory {{ absolute_path(to) }}
    find {{ to }} -path '*/records/*.json' -exec gzip --no-name --best --force {} +

# Make the files of the committed examples again from their records.
examples:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --quiet
    for folder in docs/example docs/results/*/; do
        again=$(mktemp -d)
        target/release/peftbench report --records "$folder" --out "$again" > /dev/null 2>&1
        for file in "$again"/*; do
            old=$folder/$(basename "$file")
            if [ -e "$old" ]; then cp "$file" "$old"; fi
        done
        rm -r "$again"
    done

# Time all operations, a training step and the latency of each method; or: just bench roofline | scale | peer | busy | estimate RECORDS.
bench *what:
    cargo bench --bench bench -- {{ what }}

# peftbench serve beside transformers and PEFT under a Python server (PEFTBENCH_PYTHON): rows per second, p50 and p99; about 3 minutes.
bench-serve *flags:
    cargo build --release --quiet
    ${PEFTBENCH_PYTHON:-python3} benches/serve/run.py --binary target/release/peftbench {{ flags }}

# Test everything.
test *flags:
    cargo test --workspace --no-fail-fast {{ flags }}

# Test what computes on the plain reference path of every operation.
test-reference:
    PEFTBENCH_REFERENCE=1 cargo test --workspace --no-fail-fast --lib --test backbone --test contract --test main

# Weights back and forth with the real Python libraries (PEFTBENCH_PYTHON names a Python that has them); with PEFTBENCH_INTEROP_SST2=1 also on minilm and SST-2.
interop *flags:
    tests/interop/run.sh {{ flags }}

# Compare with torch, transformers, peft and adapters by the committed fixtures, and print every largest difference.
parity:
    cargo test --test main parity:: -- --nocapture --test-threads 1

# How often the statistics are wrong, by simulation with known truth; the tables go into docs/METHODOLOGY.md.
error-rates drawings="4000":
    cargo run --release --quiet --package peftbench-statistics --example error_rates -- docs/METHODOLOGY.md {{ drawings }}

# The same on streams on which nothing was chosen; a summary goes into docs/METHODOLOGY.md.
error-rates-fresh drawings="1000":
    cargo run --release --quiet --package peftbench-statistics --example error_rates -- docs/METHODOLOGY.md {{ drawings }} fresh

# Read damaged files of every kind, each property with this many cases.
fuzz cases="5000":
    PROPTEST_CASES={{ cases }} cargo test --no-fail-fast --test main fuzz::

# Ten thousand runs over two hundred failing nodes in virtual time, by the real plan file, claims, records, status and report.
scale-plan:
    PEFTBENCH_SCALE=1 cargo test --release --test main -- --nocapture scale::

# A job array on a real Slurm, installed and started on this machine (root, apt); says why, where it is skipped.
test-slurm:
    cargo test --quiet --workspace --test main --no-run
    tests/slurm.sh "${CARGO_TARGET_DIR:-target}/debug/peftbench"

# Fuzz every reader of foreign bytes for so many seconds each (needs a C++ compiler), or those named: just fuzz-long 600 csv zip.
fuzz-long *seconds_and_readers:
    fuzz/run.sh {{ seconds_and_readers }}

# Many rows through the task library, predict --tasks and serve while tasks come and go, and a long training: answers and memory are checked. Minutes; just soak 1000000 10000 takes hours.
soak rows="20000" steps="2000":
    PEFTBENCH_SOAK="{{ rows }} {{ steps }}" cargo test --release --test main -- --nocapture --test-threads 1 soak::

# Test the report's page in headless Chromium, where there is one; screenshots into target/page/shots.
page-test:
    cargo run --quiet --example sample_report -- target/page
    test -d target/page/venv || python3 -m venv target/page/venv
    target/page/venv/bin/pip install --quiet --requirement reports/tests/requirements.txt
    target/page/venv/bin/python reports/tests/page.py target/page target/page/shots

# Format, then let the linters speak.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- --deny warnings

# Build the documentation; a broken link is an error.
docs:
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps

# Validate every YAML without training.
check:
    cargo run --quiet -- check

# Everything that must be green before a change lands.
ci: lint test test-slurm test-reference interop docs check cross
