"""The Python side of `just bench peer smollm2-135m`: a decoder trained for some steps, or read and gone on with, as one
JSON line on stdout.

Training: classes are words of the vocabulary, so that of every text the last row is read and the loss is over the logits
of the words; nothing else of the vocabulary gets a logit. LoRA and prompt tuning come from Hugging Face PEFT. Texts are
padded on the left to the longest of their batch. Inference: a prompt, then greedy tokens one by one, with the library's
own cache of keys and values.

Accuracy: trained by the recipe's schedule and judged by validation sentences. Texts are padded on the right and read at
their own last token, so that no padding stands between a prompt and its text.

Modes: `f32`; `bf16`, where frozen weights are bf16 (for inference all of them) and what is trained stays f32 under
autocast; `llama_cpp`, llama.cpp over the GGUF itself, for inference.
"""

import argparse
import contextlib
import json
import os
import resource
import time

RATES = {"lora": 1e-3, "prompt": 3e-2, "full": 5e-5}


def build(method, folder):
    """The language model with the method's trainables, or as it is."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    if method in ("none", "full"):
        return model
    import peft

    config = {
        "lora": lambda: peft.LoraConfig(
            task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]
        ),
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=20),
    }
    return peft.get_peft_model(model, config[method]())


def padded(examples):
    import torch

    longest = max(len(e) for e in examples)
    ids = torch.tensor([[0] * (longest - len(e)) + e for e in examples])
    mask = torch.tensor([[0] * (longest - len(e)) + [1] * len(e) for e in examples])
    return {"input_ids": ids, "attention_mask": mask}


def train(arguments, work):
    import torch

    torch.manual_seed(0)
    model = build(arguments.method, arguments.model)
    trained = [p for p in model.parameters() if p.requires_grad]
    context = contextlib.nullcontext
    if arguments.mode == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
        context = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    optimiser = torch.optim.AdamW(trained, lr=RATES[arguments.method], weight_decay=0.01)
    model.train()
    first = None
    tokens = 0
    for number, batch in enumerate(work["batches"]):
        if number == work["warm_up"]:
            clock = time.perf_counter()
        with context():
            logits = model(**padded(batch["ids"]), logits_to_keep=1, use_cache=False).logits
        logits = logits[:, -1, work["words"]].float()
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(batch["labels"]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        value = loss.item()
        first = value if first is None else first
        if number >= work["warm_up"]:
            tokens += sum(len(e) for e in batch["ids"])
    return {"tokens_per_second": tokens / (time.perf_counter() - clock), "first_loss": first}


def at_the_end(model, examples, words, virtual):
    """The logits of the words behind each text."""
    import torch

    longest = max(len(e) for e in examples)
    ids = torch.tensor([e + [0] * (longest - len(e)) for e in examples])
    mask = torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in examples])
    ends = [virtual + len(e) - 1 for e in examples]
    kept = sorted(set(ends))
    out = model(input_ids=ids, attention_mask=mask, logits_to_keep=torch.tensor(kept), use_cache=False)
    rows = torch.tensor([kept.index(end) for end in ends])
    return out.logits[torch.arange(len(examples)), rows][:, words].float()


def judge(arguments, work):
    import torch

    torch.manual_seed(0)
    model = build(arguments.method, arguments.model)
    virtual = 20 if arguments.method == "prompt" else 0
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATES[arguments.method], weight_decay=0.01)
    model.train()
    for factor, batch in zip(work["schedule"], work["batches"], strict=True):
        for group in optimiser.param_groups:
            group["lr"] = RATES[arguments.method] * factor
        logits = at_the_end(model, batch["ids"], work["words"], virtual)
        torch.nn.functional.cross_entropy(logits, torch.tensor(batch["labels"])).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
    model.eval()
    ids, labels = work["validation"]["ids"], work["validation"]["labels"]
    right = 0
    with torch.inference_mode():
        for first in range(0, len(ids), 32):
            logits = at_the_end(model, ids[first : first + 32], work["words"], virtual)
            right += (logits.argmax(-1) == torch.tensor(labels[first : first + 32])).sum().item()
    return {"accuracy": right / len(ids)}


def go_on(arguments, work):
    import torch

    model = build(arguments.method, arguments.model).eval()
    if arguments.mode == "bf16":
        model = model.to(torch.bfloat16)

    def write(ids, tokens):
        """Tokens and the time at which each was there."""
        written, times, past = [], [], None
        ids = torch.tensor([ids])
        while len(written) < tokens:
            out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            past = out.past_key_values
            ids = out.logits[:, -1].argmax(-1, keepdim=True)
            written.append(ids.item())
            times.append(time.perf_counter())
        return written, times

    with torch.inference_mode():
        write(work["prompt"][:8], 2)
        return timed(write, work)


def go_on_by_llama_cpp(arguments, work):
    try:
        from llama_cpp import Llama
    except ImportError:
        return {"missing": "llama-cpp-python is not installed"}

    threads = int(os.environ["THREADS"])
    model = Llama(arguments.gguf, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def write(ids, tokens):
        written, times = [], []
        for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
            written.append(token)
            times.append(time.perf_counter())
            if len(written) == tokens:
                return written, times

    # (Other tokens than the prompt's, of which it would keep what it has read.)
    write(work["prompt"][8:0:-1], 2)
    return timed(write, work)


def timed(write, work):
    clock = time.perf_counter()
    written, times = write(work["prompt"], work["tokens"])
    return {
        "prefill": len(work["prompt"]) / (times[0] - clock),
        "decode": (len(written) - 1) / (times[-1] - times[0]),
        "written": written,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["training", "accuracy", "inference"])
    parser.add_argument("--method", choices=["none", *RATES], required=True)
    parser.add_argument("--mode", choices=["f32", "bf16", "llama_cpp"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--work", required=True)
    arguments = parser.parse_args()
    with open(arguments.work) as file:
        work = json.load(file)
    if arguments.mode == "llama_cpp":
        figures = go_on_by_llama_cpp(arguments, work)
    else:
        import torch

        torch.set_num_threads(int(os.environ["THREADS"]))
        figures = {"training": train, "accuracy": judge, "inference": go_on}[arguments.what](arguments, work)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
