"""`peftbench serve` beside transformers and PEFT under a Python server, on this machine, with the same weights and requests.

    just bench-serve                        # four LoRA tasks over minilm, trained for a few steps
    python benches/serve/run.py --binary target/release/peftbench --seconds 10

PEFTBENCH_PYTHON, or the Python that runs this, needs torch, transformers and peft (tests/fixtures/requirements.txt). One side after
the other, in turn; first all sides have to answer the same. The client is benches/serve/load.py, which takes a share of the cores
itself: the same for each side.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import load

HERE = Path(__file__).resolve().parent
SIDES = ["peftbench serve", "python, request by request", "python, batched"]


def prepared(binary, out, tasks, backbone):
    """Folders of our weights and of their PEFT exports, a task each."""
    weights, exports = out / "tasks" / "weights", out / "peft"
    if not weights.is_dir() or len(list(weights.iterdir())) != tasks:
        subprocess.run([binary, "compare", "movie_snippets", "--backbone", backbone, "--methods", "lora", "--seeds", str(tasks),
                        "--set", "recipe.steps=20", "--set", "recipe.evaluations=1", "--set", "backbone.pooling=pooler",
                        "--budget", "quick", "--out", out / "tasks"], check=True)
    for task in sorted(weights.iterdir()):
        if not (exports / task.name).is_dir():
            subprocess.run([binary, "export", "--weights", task, "--format", "peft", "--out", exports / task.name], check=True)
    return weights, exports


def fetched(backbone):
    """The folder of a backbone that peftbench has fetched as a Python package; none for others."""
    cache = os.environ.get("PEFTBENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "peftbench")
    return next((str(file.parent) for file in Path(cache, "packages").glob(f"*{backbone}*/**/model.safetensors")), None)


class Service:
    """A running side; stopped at the end of a `with`."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        address = self.process.stdout.readline().strip()
        if not address.startswith("http://"):
            self.process.kill()
            sys.exit(f"{command[0]} did not start: {address}")
        self.place = urlsplit(address).netloc

    def __enter__(self):
        return self.place

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="peftbench")
    parser.add_argument("--out", type=Path, default=Path("reports/out/bench/serve"))
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2, help="how often each side has its turn")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    weights, exports = prepared(asked.binary, asked.out, asked.tasks, asked.backbone)
    base = fetched(asked.backbone)
    named = ["--base", base] if base else []
    peer = [os.environ.get("PEFTBENCH_PYTHON", sys.executable), HERE / "peer.py", exports, *named, "--mode"]
    commands = [[asked.binary, "serve", "--tasks", weights, "--port", "0"], [*peer, "plain"], [*peer, "batched"]]
    names = sorted(path.name for path in weights.iterdir())
    rows = [{"task": names[i % len(names)], "text": load.text(i)} for i in range(4 * len(names))]
    answers, found = [], []
    for round in range(asked.rounds):
        for side, command in zip(SIDES, commands):
            with Service(command) as place:
                body = json.dumps({"rows": rows})
                said = json.loads(load.ask(place, "/v1/predict", body)[1])["predictions"]
                answers.append([row["logits"] for row in said])
                far = max(abs(a - b) for own, first in zip(answers[-1], answers[0]) for a, b in zip(own, first))
                if far > 1e-4:
                    sys.exit(f"{side}: logits differ by {far:.1e} from those of {SIDES[0]}: these are not the same models")
                load.load(place, names, 4, 2)
                for connections in asked.connections:
                    one = load.load(place, names, connections, asked.seconds)
                    found.append({"side": side, "round": round, **one})
                    print(f"{side}, {connections} connections: {one['rows_per_second']:.0f} rows/s, p50 {one['p50_ms']:.1f} ms, "
                          f"p99 {one['p99_ms']:.1f} ms, {one['refused']} refused", file=sys.stderr)
    table = "| service | connections | rows/s | p50 ms | p99 ms |\n| :-- | --: | --: | --: | --: |\n"
    for connections in asked.connections:
        for side in SIDES:
            of = [one for one in found if one["side"] == side and one["connections"] == connections]
            middle = lambda key: sorted(one[key] for one in of)[len(of) // 2]
            table += (f"| {side} | {connections} | {middle('rows_per_second'):.0f} | {middle('p50_ms'):.1f} | "
                      f"{middle('p99_ms'):.1f} |\n")
    print(f"{asked.tasks} LoRA tasks over {asked.backbone}, one row of 20 words a request, {platform.machine()}, "
          f"{asked.rounds} rounds of {asked.seconds:.0f} s\n\n{table}", end="")
    (asked.out / "serve.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
