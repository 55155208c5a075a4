"""The Python side of `just bench-serve`: transformers and PEFT behind http.server, with the addresses of `peftbench serve`.

    python benches/serve/peer.py FOLDER --mode plain

FOLDER holds a PEFT export per task. `plain` answers request by request, as a handler with `set_adapter` does; `batched` lets one
thread take all rows that have come since its last pass, up to 32, in one padded batch with PEFT's `adapter_names`.
"""

import argparse
import json
import os
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import peft
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

BATCH = 32


class Model:
    def __init__(self, folder, base):
        tasks = sorted(path for path in Path(folder).iterdir() if path.is_dir())
        base = base or json.loads((tasks[0] / "adapter_config.json").read_text())["base_model_name_or_path"]
        config = AutoConfig.from_pretrained(tasks[0])
        self.labels = config.id2label
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForSequenceClassification.from_pretrained(base, config=config, ignore_mismatched_sizes=True)
        self.model = peft.PeftModel.from_pretrained(model, tasks[0], adapter_name=tasks[0].name)
        for task in tasks[1:]:
            self.model.load_adapter(task, adapter_name=task.name)
        self.model.eval()
        self.tasks = [task.name for task in tasks]

    @torch.inference_mode()
    def logits(self, rows, mixed):
        inputs = self.tokenizer([row["text"] for row in rows], padding=True, truncation=True, max_length=128,
                                return_tensors="pt")
        if mixed:
            return self.model(**inputs, adapter_names=[row["task"] for row in rows]).logits.tolist()
        self.model.set_adapter(rows[0]["task"])
        return self.model(**inputs).logits.tolist()

    def answers(self, logits):
        return [{"label": self.labels[max(range(len(row)), key=row.__getitem__)], "logits": row} for row in logits]


class Plain:
    def __init__(self, model):
        self.model, self.lock = model, threading.Lock()

    def predict(self, rows):
        found = [None] * len(rows)
        with self.lock:
            for task in {row["task"] for row in rows}:
                own = [i for i, row in enumerate(rows) if row["task"] == task]
                for i, row in zip(own, self.model.logits([rows[i] for i in own], mixed=False)):
                    found[i] = row
        return self.model.answers(found)


class Batched:
    def __init__(self, model):
        self.model, self.jobs = model, queue.SimpleQueue()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            taken = [self.jobs.get()]
            while sum(len(rows) for rows, _ in taken) < BATCH:
                try:
                    taken.append(self.jobs.get_nowait())
                except queue.Empty:
                    break
            rows = [row for rows, _ in taken for row in rows]
            found = iter(self.model.answers(self.model.logits(rows, mixed=True)))
            for own, reply in taken:
                reply.put([next(found) for _ in own])

    def predict(self, rows):
        reply = queue.SimpleQueue()
        self.jobs.put((rows, reply))
        return reply.get()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--mode", choices=["plain", "batched"], default="plain")
    parser.add_argument("--base", help="folder of the backbone, where the name in the exports is not to be fetched")
    asked = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = Model(asked.folder, asked.base)
    service = {"plain": Plain, "batched": Batched}[asked.mode](model)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet for an answer, sent at once.
        wbufsize = -1
        disable_nagle_algorithm = True

        def say(self, told):
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.say([{"task": task} for task in model.tasks])

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.say({"predictions": service.predict(asked["rows"])})

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
