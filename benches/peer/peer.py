"""The Python side of `just bench peer`: one method trained for some steps and timed, as one JSON line on stdout.

LoRA and prompt tuning come from Hugging Face PEFT, the Houlsby adapter from AdapterHub's library; full fine-tuning and
the head alone are plain transformers. Batches arrive as token ids, already of like length; each is padded to its own
longest example. Dropout is off, and the gradient is clipped, as on our side.

Modes: `f32`; `autocast`, where PyTorch computes products in bf16 and keeps every weight in f32; `frozen`, where frozen
weights are bf16 and what is trained stays f32 under autocast; `compile`, f32 through torch.compile with dynamic shapes.
"""

import argparse
import contextlib
import json
import os
import resource
import time

STARTED = time.time() - time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)

import torch
from transformers import AutoModelForSequenceClassification

MODES = ["f32", "autocast", "frozen", "compile"]
RATES = {"lora": 1e-3, "prompt": 1e-2, "adapter": 1e-3, "full": 5e-5, "head": 5e-3}


def build(method, folder):
    """The model with its trainables, and the parameters that are trained."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    if method == "lora":
        import peft

        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"]
        )
        model = peft.get_peft_model(model, config)
    elif method == "prompt":
        import peft

        model = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=20))
    elif method == "adapter":
        import adapters

        adapters.init(model)
        model.add_adapter("bench", config=adapters.DoubleSeqBnConfig(reduction_factor=16))
        model.train_adapter("bench")
        model.classifier.requires_grad_(True)
    elif method == "head":
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model, [p for p in model.parameters() if p.requires_grad]


def in_mode(model, mode):
    """The model as the mode has it, and the context in which it runs."""
    if mode == "frozen":
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    if mode == "compile":
        model = torch.compile(model, dynamic=True)
    if mode in ("autocast", "frozen"):
        return model, lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    return model, contextlib.nullcontext


def padded(examples):
    longest = max(len(e) for e in examples)
    ids = torch.tensor([e + [0] * (longest - len(e)) for e in examples])
    mask = torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in examples])
    return {"input_ids": ids, "attention_mask": mask}


def median_latency(model, sentences, context):
    """Median milliseconds of one sentence's forward; the first eighth of the passes is warm-up."""
    model.eval()
    times = []
    with torch.inference_mode(), context():
        for ids in sentences:
            inputs = padded([ids])
            start = time.perf_counter()
            model(**inputs)
            times.append(1e3 * (time.perf_counter() - start))
    times = sorted(times[len(times) // 8 :])
    return times[len(times) // 2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=sorted(RATES), required=True)
    parser.add_argument("--mode", choices=MODES, default="f32")
    parser.add_argument("--model", required=True)
    parser.add_argument("--batches", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
    torch.manual_seed(0)
    with open(arguments.batches) as file:
        work = json.load(file)
    built, trained = build(arguments.method, arguments.model)
    model, context = in_mode(built, arguments.mode)
    optimiser = torch.optim.AdamW(trained, lr=RATES[arguments.method], weight_decay=0.01)
    model.train()

    first = None
    examples = 0
    for number, batch in enumerate(work["batches"]):
        if number == work["warm_up"]:
            clock = time.perf_counter()
        with context():
            loss = model(**padded(batch["ids"]), labels=torch.tensor(batch["labels"])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        if first is None:
            first = time.time() - STARTED
        if number >= work["warm_up"]:
            examples += len(batch["ids"])
    seconds = time.perf_counter() - clock
    figures = {
        "examples_per_second": examples / seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds_to_first_step": first,
        "latency_ms": median_latency(model, work["sentences"], context),
    }
    if arguments.method == "lora":
        merged, context = in_mode(built.merge_and_unload(), arguments.mode)
        figures["merged_ms"] = median_latency(merged, work["sentences"], context)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
