"""Weights back and forth between peftbench and the Python libraries, compared number by number.

Called by run.sh. Writes what it found as a table (--table), prints each case, and fails if one differs.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
TINY = ["bert", "roberta", "distilbert"]
TOLERANCE = 1e-4  # of logits, relative to the largest
TEXTS = [
    "a very good story",
    "this film is bad and dull",
    "it was not that long",
    "great",
    "the movie was too long but the story is good in that it is short",
    "no",
    "with a very dull story and an odd voice, this was not for him",
]
LABELS = ["bad", "good"]


class Case:
    """One row of the table."""

    rows = []

    def __init__(self, what, model, way, reader):
        self.what, self.model, self.way, self.reader = what, model, way, reader

    def compare(self, got, expected, texts=None):
        got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        assert got.shape == expected.shape, (self.what, got.shape, expected.shape)
        difference = np.abs(got - expected).max() / np.abs(expected).max()
        same = int((got.argmax(1) == expected.argmax(1)).sum())
        ok = bool(difference <= TOLERANCE and same == len(got))
        Case.rows.append((self.what, self.model, self.way, self.reader, difference, same, len(got), ok))
        print(f"{'ok  ' if ok else 'FAIL'} {self.way} {self.model} {self.what} [{self.reader}]: "
              f"{difference:.1e}, {same} of {len(got)} predictions equal", flush=True)
        return ok

    def written(self, texts, expected, perplexity, theirs):
        """Texts that are written, and the perplexity of the true ones."""
        difference = abs(perplexity / theirs - 1)
        same = sum(a == b for a, b in zip(texts, expected, strict=True))
        ok = bool(difference <= TOLERANCE and same == len(texts))
        Case.rows.append((self.what, self.model, self.way, self.reader, difference, same, len(texts), ok))
        print(f"{'ok  ' if ok else 'FAIL'} {self.way} {self.model} {self.what} [{self.reader}]: perplexity {perplexity:.4f} and "
              f"{theirs:.4f}, {same} of {len(texts)} texts equal", flush=True)
        if not ok:
            print("  ", [pair for pair in zip(texts, expected) if pair[0] != pair[1]][:3])


class Tool:
    """The command under test."""

    def __init__(self, binary, place):
        self.binary, self.place = binary, place

    def run(self, *arguments, stdin=None):
        done = subprocess.run([self.binary, *map(str, arguments)], input=stdin, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def predict(self, weights, texts, backbone=None):
        rows = "\n".join(json.dumps({"text": t}) for t in texts)
        more = ["--backbone", backbone] if backbone else []
        out = self.run("predict", "--weights", weights, "--offline", *more, stdin=rows)
        return [json.loads(line)["logits"] for line in out.splitlines()]

    def train(self, name, method, backbone, *settings, data=None):
        arguments = ["train", data or self.data(), "--method", method, "--seed", "3", "--backbone", backbone,
                     "--out", self.place / name, "--offline", "--budget", "quick"]
        if not data:
            arguments += ["--text-column", "review", "--label-column", "stars"]
            settings += ("recipe.steps=20", "recipe.evaluations=1")
        for setting in settings:
            arguments += ["--set", setting]
        return self.run(*arguments).strip()

    def data(self):
        path = self.place / "reviews.csv"
        if not path.exists():
            rows = ["review,stars"]
            for i in range(240):
                words = "good great and very short" if i % 2 else "bad dull or too long"
                rows.append(f"the film {i % 7} was {words} {i},{LABELS[i % 2]}")
            path.write_text("\n".join(rows) + "\n")
        return path

    def export(self, weights, form, name, *more):
        out = self.place / name
        self.run("export", "--weights", weights, "--format", form, "--out", out, "--offline", *more)
        return out


def tokenise(tokenizer, texts, model=None):
    batch = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    if getattr(getattr(model, "config", None), "model_type", "") == "distilbert":
        batch.pop("token_type_ids", None)
    return batch


def logits(model, tokenizer, texts, size=64):
    model.eval()
    out = []
    with torch.no_grad():
        for start in range(0, len(texts), size):
            got = model(**tokenise(tokenizer, texts[start:start + size], model))
            out.append(got.logits if hasattr(got, "logits") else got)
    return torch.cat(out).numpy()


# DistilBERT's attention by scaled_dot_product_attention adds adapters' mask of prefixes, ones, to the scores.
EAGER = {"attn_implementation": "eager"}


def classifier(folder, labels=2):
    """A transformers classifier with a seeded head over a checkpoint."""
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=labels, ignore_mismatched_sizes=True, **EAGER)


def train(model, tokenizer, texts, labels, steps=12, batch=16, rate=1e-2):
    """A few steps, so that nothing is at its start any more."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate)
    order = torch.Generator().manual_seed(11)
    for _ in range(steps):
        which = torch.randint(len(texts), (batch,), generator=order).tolist()
        batch_of = tokenise(tokenizer, [texts[i] for i in which], model)
        loss = torch.nn.functional.cross_entropy(model(**batch_of).logits, torch.tensor([labels[i] for i in which]))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def examples(tool):
    rows = [line.rsplit(",", 1) for line in tool.data().read_text().splitlines()[1:]]
    return [text for text, _ in rows], [LABELS.index(label) for _, label in rows]


# Configurations of PEFT: a name, the architectures it is tried on, and how it is made.
def peft_configs():
    from peft import IA3Config, LNTuningConfig, LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, TaskType

    task = TaskType.SEQ_CLS

    def names(arch):
        return ["q_lin", "v_lin"] if arch == "distilbert" else ["query", "value"]

    def lora(**more):
        def make(arch):
            options = {"r": 3, "lora_alpha": 6, "target_modules": names(arch), **more}
            if arch == "distilbert":
                options["modules_to_save"] = ["pre_classifier"]
            return LoraConfig(task_type=task, **options)
        return make

    def ia3(arch):
        if arch == "distilbert":
            return IA3Config(task_type=task, target_modules=["k_lin", "v_lin", "lin2"], feedforward_modules=["lin2"],
                             modules_to_save=["pre_classifier"])
        return IA3Config(task_type=task)  # the library's own targets

    def norms(arch, names=None):
        names = names or (["sa_layer_norm", "output_layer_norm", "LayerNorm"] if arch == "distilbert" else ["LayerNorm"])
        more = {"modules_to_save": ["pre_classifier"]} if arch == "distilbert" else {}
        return LNTuningConfig(task_type=task, target_modules=names, **more)

    def save(arch):
        # PEFT does not find DistilBERT's sizes, which have other names.
        sizes = {"token_dim": 32, "num_layers": 2, "num_attention_heads": 4}
        return {"modules_to_save": ["pre_classifier"], **sizes} if arch == "distilbert" else {}

    return [
        ("LoRA", TINY, lora()),
        ("LoRA, rsLoRA scaling", ["bert"], lora(use_rslora=True)),
        ("LoRA, rank and alpha by pattern", ["bert"],
         lora(rank_pattern={"layer.1.attention.self.value": 2, "query": 4}, alpha_pattern={r"layer\.1\..*query": 5})),
        ("LoRA, targets by regular expression", ["bert"], lora(target_modules=r".*layer\.[01]\.(?!attention\.output).*dense")),
        ("LoRA, one layer", ["bert", "roberta"], lora(layers_to_transform=[1])),
        ("LoRA, all-linear", ["bert", "roberta"], lora(target_modules="all-linear")),
        ("LoRA, pooler saved whole", ["bert"], lora(modules_to_save=["pooler"])),
        ("prompt tuning", TINY, lambda a: PromptTuningConfig(task_type=task, num_virtual_tokens=5, **save(a))),
        ("P-tuning (encoder MLP)", ["bert"], lambda a: PromptEncoderConfig(
            task_type=task, num_virtual_tokens=4, encoder_hidden_size=16, **save(a))),
        ("P-tuning (encoder LSTM)", ["bert"], lambda a: PromptEncoderConfig(
            task_type=task, num_virtual_tokens=4, encoder_hidden_size=16, encoder_reparameterization_type="LSTM")),
        ("DoRA", TINY, lora(use_dora=True)),
        ("IA3", TINY, ia3),
        ("layer norms", TINY, norms),
        ("layer norms, of attention only", ["bert"], lambda a: norms(a, r".*attention\.output\.LayerNorm")),
        ("prefix tuning", ["bert"], lambda a: PrefixTuningConfig(task_type=task, num_virtual_tokens=4)),
        ("prefix tuning (projection)", ["bert"], lambda a: PrefixTuningConfig(
            task_type=task, num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=16)),
    ]


def from_peft(tool):
    from peft import PeftModel, get_peft_model

    texts, labels = examples(tool)
    for what, archs, make in peft_configs():
        for arch in archs:
            base = FIXTURES / arch
            tokenizer = AutoTokenizer.from_pretrained(base)
            model = train(get_peft_model(classifier(base), make(arch)), tokenizer, texts, labels)
            folder = tool.place / re.sub(r"\W+", "-", f"peft {arch} {what}")
            model.save_pretrained(folder)
            # What the library computes from its own folder: P-tuning ships tokens, not their encoder.
            again = PeftModel.from_pretrained(classifier(base), folder)
            expected = logits(again, tokenizer, TEXTS)
            Case(what, arch, "PEFT → peftbench", "PEFT").compare(tool.predict(folder, TEXTS, base), expected)


def from_adapters(tool):
    import adapters
    import safetensors.torch
    from adapters import (AutoAdapterModel, CompacterConfig, DoubleSeqBnConfig, MAMConfig, ParBnConfig, PrefixTuningConfig,
                          SeqBnConfig)

    def prefix(**more):
        return PrefixTuningConfig(prefix_length=4, bottleneck_size=16, **more)

    texts, labels = examples(tool)
    for what, config in [("Houlsby", DoubleSeqBnConfig(reduction_factor=8)), ("Pfeiffer", SeqBnConfig(reduction_factor=8)),
                         ("Houlsby, a layer left out", DoubleSeqBnConfig(reduction_factor=4, leave_out=[0])),
                         ("parallel", ParBnConfig(reduction_factor=8)),
                         ("Compacter", CompacterConfig(reduction_factor=4)),
                         ("prefix tuning", prefix(flat=True)), ("prefix tuning (MLP)", prefix()),
                         ("mix-and-match", MAMConfig(prefix_tuning=prefix(), adapter=ParBnConfig(reduction_factor=8)))]:
        for arch in TINY:
            base = FIXTURES / arch
            tokenizer = AutoTokenizer.from_pretrained(base)
            for head in ["transformers' head", "AdapterHub's head"]:
                if head.startswith("t"):
                    model = classifier(base)
                    adapters.init(model)
                    model.add_adapter("task", config=config)
                else:
                    torch.manual_seed(5)
                    model = AutoAdapterModel.from_pretrained(base, **EAGER)
                    model.add_adapter("task", config=config)
                    model.add_classification_head("task", num_labels=2, id2label=dict(enumerate(LABELS)))
                model.train_adapter("task")
                train(model, tokenizer, texts, labels)
                folder = tool.place / re.sub(r"\W+", "-", f"hub {arch} {what} {head}")
                folder.mkdir()
                # The library fails at safetensors where tensors share memory, as the layers' prefixes do: as our message says.
                model.save_adapter(str(folder), "task", with_head=True, use_safetensors=False)
                for file, new in [("pytorch_adapter.bin", "adapter.safetensors"),
                                  ("pytorch_model_head.bin", "model_head.safetensors")]:
                    tensors = torch.load(folder / file, weights_only=True)
                    safetensors.torch.save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / new)
                Case(f"{what}, {head}", arch, "AdapterHub → peftbench", "adapters").compare(
                    tool.predict(folder, TEXTS, base), logits(model, tokenizer, TEXTS))


def separate(folder, base):
    spec = importlib.util.spec_from_file_location("head", folder / "head.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Classifier(folder, base)


# How a backbone must be read so that a class of transformers can hold the classifier.
READINGS = {
    "bert": [("pooler", "linear"), ("cls", "dense_tanh")],
    "roberta": [("cls", "dense_tanh")],
    "distilbert": [("cls", "dense_relu")],
}


def to_python(tool):
    from peft import AutoPeftModelForSequenceClassification

    peft_methods = [
        ("LoRA", "lora", ["lora.rank=3"]),
        ("rsLoRA, all modules", "lora", ["lora.rank=2", "lora.rslora=true",
         "lora.target_modules=[query, key, value, attention_output, intermediate, output]"]),
        ("PiSSA", "lora", ["lora.rank=3", "lora.init=pissa"]),
        ("OLoRA, rsLoRA scaling", "lora", ["lora.rank=2", "lora.init=olora", "lora.rslora=true"]),
        ("LoRA, feed-forward only", "lora", ["lora.rank=2", "lora.target_modules=[output]"]),
        ("LoRA, one layer, ranks by site", "lora", ["lora.rank=2", "lora.layers=[1]",
         "lora.rank_pattern={encoder.1.value: 4}", "lora.alpha_pattern={encoder.1.query: 3}"]),
        ("prompt tuning", "prompt_tuning", ["prompt_tuning.virtual_tokens=5", "prompt_tuning.pooling=first"]),
        ("P-tuning", "p_tuning", ["p_tuning.virtual_tokens=5", "p_tuning.pooling=first"]),
        ("DoRA", "dora", ["dora.rank=3"]),
        ("IA3", "ia3", []),
        ("layer norms", "layer_norm", []),
        ("prefix tuning", "prefix_tuning", ["prefix_tuning.virtual_tokens=4"]),
        ("prefix tuning from an MLP", "prefix_tuning",
         ["prefix_tuning.virtual_tokens=4", "prefix_tuning.reparametrisation=mlp", "prefix_tuning.width=16"]),
    ]
    # DistilBERT takes no keys and values from outside, and PEFT takes RoBERTa's for its features.
    without_prefix = {"distilbert", "roberta"}
    for arch in TINY:
        base = FIXTURES / arch
        tokenizer = AutoTokenizer.from_pretrained(base)
        for pooling, head in READINGS[arch]:
            reading = [f"backbone.pooling={pooling}", f"backbone.head={head}"]
            for what, method, settings in peft_methods:
                if method == "prefix_tuning" and arch in without_prefix:
                    continue
                name = re.sub(r"\W+", "-", f"ours {arch} {pooling} {what}")
                weights = tool.train(name, method, base, *reading, *settings)
                expected = tool.predict(weights, TEXTS)
                folder = tool.export(weights, "peft", name + "-peft")
                # Python learns the classes from the folder.
                config = AutoConfig.from_pretrained(folder)
                assert config.num_labels == len(LABELS) and sorted(config.id2label.values()) == LABELS, config
                # As the model card says: the library takes number and names of the classes from the base.
                model = AutoPeftModelForSequenceClassification.from_pretrained(
                    folder, id2label=config.id2label, ignore_mismatched_sizes=True, **EAGER)
                assert [model.config.id2label[i] for i in range(2)] == LABELS, model.config.id2label
                Case(f"{what} ({pooling}, {head})", arch, "peftbench → PEFT", "AutoPeftModelForSequenceClassification").compare(
                    logits(model, tokenizer, TEXTS), expected)
                if method in ("lora", "dora", "ia3"):
                    folder = tool.export(weights, "merged", name + "-merged")
                    merged(tool, folder, f"{what}, merged ({pooling}, {head})", arch, expected)
        for method in ["full", "bitfit", "layer_norm"]:
            weights = tool.train(f"{method}-{arch}", method, base, *reading)
            folder = tool.export(weights, "merged", f"{method}-{arch}-merged")
            merged(tool, folder, f"{method} ({pooling}, {head})", arch, tool.predict(weights, TEXTS))

        # Heads that no class holds: with a reader of their own.
        for what, method, form, settings in [
            ("LoRA", "lora", "peft", ["lora.rank=3"]),
            ("prompt tuning", "prompt_tuning", "peft", ["prompt_tuning.virtual_tokens=5"]),
            ("Houlsby", "adapter", "adapterhub", ["adapter.reduction_factor=8"]),
            ("mix-and-match", "mam", "adapterhub", ["mam.prefix_tuning.virtual_tokens=4"]),
            ("LoRA, merged", "lora", "merged", ["lora.rank=3"]),
        ]:
            name = re.sub(r"\W+", "-", f"mean {arch} {what}")
            weights = tool.train(name, method, base, "backbone.pooling=mean", *settings)
            folder = tool.export(weights, form, name + "-out", "--separate-head")
            Case(f"{what} (mean, head apart)", arch, f"peftbench → {form}", "head.py of the folder").compare(
                logits(separate(folder, None), tokenizer_of(arch), TEXTS), tool.predict(weights, TEXTS))


def tokenizer_of(arch):
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / arch)
    if arch == "distilbert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def merged(tool, folder, what, arch, expected):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert [model.config.id2label[i] for i in range(2)] == LABELS, model.config.id2label
    Case(what, arch, "peftbench → transformers", "AutoModelForSequenceClassification").compare(
        logits(model, AutoTokenizer.from_pretrained(folder), TEXTS), expected)


def to_adapters(tool):
    from adapters import AutoAdapterModel

    small = "adapter.reduction_factor=8"
    others = [("Compacter", "compacter", ["compacter.reduction_factor=4"]),
              ("Compacter, one layer", "compacter", ["compacter.reduction_factor=8", "compacter.layers=[1]"]),
              ("prefix tuning", "prefix_tuning", ["prefix_tuning.virtual_tokens=4", "prefix_tuning.positions=kept"]),
              ("prefix tuning from an MLP", "prefix_tuning", ["prefix_tuning.virtual_tokens=4", "prefix_tuning.positions=kept",
                                                             "prefix_tuning.reparametrisation=mlp", "prefix_tuning.width=16"]),
              ("Houlsby, AdapterDrop", "adapter", [small, "adapter.drop_layers=1", "adapter.drop=inference"]),
              ("mix-and-match", "mam", ["mam.prefix_tuning.virtual_tokens=4"])]
    for arch in TINY:
        cases = [(what, method, settings, "cls", "linear") for what, method, settings in others]
        for placement, pooling, head in [("houlsby", "cls", "dense_tanh"), ("pfeiffer", "cls", "linear"),
                                         ("houlsby", "cls", "dense_relu"), ("pfeiffer", "pooler", "linear"),
                                         ("parallel", "cls", "linear"), ("scaled_parallel", "cls", "linear")]:
            if pooling == "pooler" and arch != "bert":
                continue
            settings = [f"adapter.placement={placement}", small]
            cases.append((placement, "adapter", settings, pooling, head))
            settings = [*settings, "adapter.layers=[1]", "adapter.activation=gelu_tanh"]
            cases.append((f"{placement}, one layer, gelu_new", "adapter", settings, pooling, head))
        base = FIXTURES / arch
        tokenizer = AutoTokenizer.from_pretrained(base)
        for what, method, settings, pooling, head in cases:
            name = re.sub(r"\W+", "-", f"ours {arch} {what} {pooling} {head}")
            weights = tool.train(name, method, base, f"backbone.pooling={pooling}", f"backbone.head={head}", *settings)
            folder = tool.export(weights, "adapterhub", name + "-out")
            model = AutoAdapterModel.from_pretrained(base, **EAGER)
            model.load_adapter(str(folder), set_active=True, use_safetensors=True)
            Case(f"{what} ({pooling}, {head})", arch, "peftbench → AdapterHub", "AutoAdapterModel.load_adapter").compare(
                logits(model, tokenizer, TEXTS), tool.predict(weights, TEXTS))


FAMILIES = ["llama", "qwen2", "qwen3", "modernbert"]


def family(tool, name):
    """The tiny model of a family with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tool.place / "families" / name
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    for file in ["config.json", "model.safetensors"]:
        (folder / file).write_bytes((FIXTURES / "families" / name / file).read_bytes())
    words = sorted({w for t in TEXTS for w in re.findall(r"\w+", t)})
    tokens = ["<unk>", "<s>", "</s>", "<pad>", *words]
    assert len(tokens) <= 40, len(tokens)
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>",
                                                              "model_input_names": ["input_ids", "attention_mask"]}))
    return folder


def families(tool):
    """Decoders and ModernBERT both ways, one text at a time: what stands before padding is another question."""
    import adapters
    from adapters import AutoAdapterModel, CompacterConfig, DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
    from peft import (AutoPeftModelForSequenceClassification, IA3Config, LNTuningConfig, LoraConfig, PeftModel, PrefixTuningConfig,
                      PromptTuningConfig, TaskType, get_peft_model)

    task = TaskType.SEQ_CLS
    texts, labels = examples(tool)
    decoders = ["llama", "qwen2", "qwen3"]
    for what, names, make in [
        ("LoRA", FAMILIES, lambda f: LoraConfig(task_type=task, r=3, lora_alpha=6, **(
            {"target_modules": ["Wqkv"], "modules_to_save": ["head"]} if f == "modernbert" else {}))),
        ("LoRA, all-linear", FAMILIES, lambda f: LoraConfig(task_type=task, r=2, target_modules="all-linear", **(
            {"modules_to_save": ["head"]} if f == "modernbert" else {}))),
        ("DoRA", ["llama"], lambda f: LoraConfig(task_type=task, r=3, use_dora=True)),
        ("IA3", decoders, lambda f: IA3Config(task_type=task)),
        ("layer norms", decoders, lambda f: LNTuningConfig(task_type=task)),
        ("prompt tuning", decoders, lambda f: PromptTuningConfig(task_type=task, num_virtual_tokens=4)),
        ("prefix tuning", decoders, lambda f: PrefixTuningConfig(task_type=task, num_virtual_tokens=4)),
    ]:
        for name in names:
            base = family(tool, name)
            tokenizer = AutoTokenizer.from_pretrained(base)
            model = train(get_peft_model(classifier(base), make(name)), tokenizer, texts, labels, batch=1)
            folder = tool.place / re.sub(r"\W+", "-", f"peft {name} {what}")
            model.save_pretrained(folder)
            again = PeftModel.from_pretrained(classifier(base), folder)
            Case(what, name, "PEFT → peftbench", "PEFT").compare(tool.predict(folder, TEXTS, base), logits(again, tokenizer, TEXTS, 1))
    for what, method, names, settings in [
        ("LoRA", "lora", FAMILIES, ["lora.rank=3"]),
        ("DoRA", "dora", ["llama", "modernbert"], ["dora.rank=3"]),
        ("IA3", "ia3", decoders, []),
        ("layer norms", "layer_norm", decoders, []),
        ("prompt tuning", "prompt_tuning", FAMILIES, ["prompt_tuning.virtual_tokens=4", "prompt_tuning.pooling=first"]),
        ("prefix tuning", "prefix_tuning", decoders, ["prefix_tuning.virtual_tokens=4"]),
        ("full", "full", FAMILIES, []),
    ]:
        for name in names:
            base = family(tool, name)
            tokenizer = AutoTokenizer.from_pretrained(base)
            weights = tool.train(re.sub(r"\W+", "-", f"ours {name} {what}"), method, base, *settings)
            expected = tool.predict(weights, TEXTS)
            if method != "full":
                folder = tool.export(weights, "peft", re.sub(r"\W+", "-", f"out {name} {what}"))
                told = AutoConfig.from_pretrained(folder).id2label
                model = AutoPeftModelForSequenceClassification.from_pretrained(folder, id2label=told, ignore_mismatched_sizes=True, **EAGER)
                Case(what, name, "peftbench → PEFT", "AutoPeftModelForSequenceClassification").compare(
                    logits(model, tokenizer, TEXTS, 1), expected)
            if method in ("lora", "dora", "ia3", "layer_norm", "full"):
                folder = tool.export(weights, "merged", re.sub(r"\W+", "-", f"merged {name} {what}"))
                model = AutoModelForSequenceClassification.from_pretrained(folder)
                assert [model.config.id2label[i] for i in range(2)] == LABELS, model.config.id2label
                own = AutoTokenizer.from_pretrained(folder)
                Case(f"{what}, merged", name, "peftbench → transformers", "AutoModelForSequenceClassification").compare(
                    logits(model, own, TEXTS, 1), expected)
    # Heads that no class holds, read at the last token or through ModernBERT's dense layer and norm; the texts in one batch.
    for name, settings in [("llama", ["backbone.head=linear"]), ("qwen3", []), ("modernbert", [])]:
        base = family(tool, name)
        for what, method, own in [("LoRA", "lora", ["lora.rank=3"]), ("prompt tuning", "prompt_tuning", ["prompt_tuning.virtual_tokens=4"])]:
            weights = tool.train(re.sub(r"\W+", "-", f"apart {name} {what}"), method, base, *settings, *own)
            folder = tool.export(weights, "peft", re.sub(r"\W+", "-", f"apart {name} {what} out"), "--separate-head")
            model = separate(folder, None)
            with torch.no_grad():
                got = model(**model.inputs(TEXTS)).numpy()
            Case(f"{what} (head apart)", name, "peftbench → peft", "head.py of the folder").compare(got, tool.predict(weights, TEXTS))
    base = family(tool, "llama")
    tokenizer = AutoTokenizer.from_pretrained(base)
    for what, config, method, settings in [
        ("Houlsby", DoubleSeqBnConfig(reduction_factor=4), "adapter", ["adapter.placement=houlsby", "adapter.reduction_factor=4"]),
        ("Pfeiffer", SeqBnConfig(reduction_factor=4), "adapter", ["adapter.placement=pfeiffer", "adapter.reduction_factor=4"]),
        ("parallel", ParBnConfig(reduction_factor=4), "adapter", ["adapter.placement=scaled_parallel", "adapter.reduction_factor=4"]),
        ("Compacter", CompacterConfig(reduction_factor=4), "compacter", ["compacter.reduction_factor=4"]),
    ]:
        torch.manual_seed(5)
        model = AutoAdapterModel.from_pretrained(base, **EAGER)
        model.add_adapter("task", config=config)
        model.add_classification_head("task", num_labels=2, layers=1, id2label=dict(enumerate(LABELS)))
        model.train_adapter("task")
        train(model, tokenizer, texts, labels, batch=1)
        folder = tool.place / re.sub(r"\W+", "-", f"hub llama {what}")
        model.save_adapter(str(folder), "task", with_head=True, use_safetensors=True)
        Case(f"{what}, AdapterHub's head", "llama", "AdapterHub → peftbench", "adapters").compare(
            tool.predict(folder, TEXTS, base), logits(model, tokenizer, TEXTS, 1))
        weights = tool.train(re.sub(r"\W+", "-", f"ours llama {what} hub"), method, base, *settings)
        folder = tool.export(weights, "adapterhub", re.sub(r"\W+", "-", f"out llama {what} hub"))
        model = AutoAdapterModel.from_pretrained(base, **EAGER)
        model.load_adapter(str(folder), set_active=True, use_safetensors=True)
        Case(what, "llama", "peftbench → AdapterHub", "AutoAdapterModel.load_adapter").compare(
            logits(model, tokenizer, TEXTS, 1), tool.predict(weights, TEXTS))


def trained(tool, name, data, method, base, *more):
    """Weights of an objective other than classification, after a few steps."""
    return tool.run("train", data, "--method", method, "--seed", "3", "--backbone", base, "--out", tool.place / name, "--offline",
                    "--budget", "quick", "--set", "recipe.evaluations=1", "--set", "recipe.steps=40", *more).strip()


def answers(tool, weights, texts, key, *more):
    rows = "\n".join(json.dumps({"text": t}) for t in texts)
    out = tool.run("predict", "--weights", weights, "--offline", *more, stdin=rows)
    return [json.loads(line)[key] for line in out.splitlines()]


def numbers_and_sets(tool):
    """A number, and sets of classes, over BERT: merged, as PEFT's folder, and from PEFT."""
    from peft import AutoPeftModelForSequenceClassification, LoraConfig, TaskType, get_peft_model

    base = FIXTURES / "bert"
    tokenizer = AutoTokenizer.from_pretrained(base)
    words = ["good", "great", "bad", "dull"]
    texts = [f"the film {i % 7} was {words[i % 4]} and {'short' if i % 3 else 'long'}" for i in range(240)]
    prices = tool.place / "prices.csv"
    prices.write_text("text,label\n" + "".join(f"{t},{9000 - 2500 * (i % 4) + i / 2}\n" for i, t in enumerate(texts)))
    sets = tool.place / "sets.csv"
    sets.write_text("text,nice,short\n" + "".join(f"{t},{int(i % 4 < 2)},{int(i % 3 > 0)}\n" for i, t in enumerate(texts)))
    for kind, data, key, outputs, more in [("regression", prices, "prediction", 1, []),
                                           ("multi_label", sets, "logits", 2, ["--label-column", "nice,short"])]:
        problem = {"regression": "regression", "multi_label": "multi_label_classification"}[kind]
        rows = lambda got: np.asarray(got, dtype=np.float64).reshape(len(TEXTS), -1)
        weights = trained(tool, f"ours {kind}", data, "lora", base, "--objective", kind, "--set", "backbone.pooling=pooler", *more)
        expected = rows(answers(tool, weights, TEXTS, key))
        folder = tool.export(weights, "merged", f"{kind} merged")
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        assert model.config.problem_type == problem, model.config
        Case(f"LoRA, merged ({kind})", "bert", "peftbench → transformers", "AutoModelForSequenceClassification").compare(
            logits(model, AutoTokenizer.from_pretrained(folder), TEXTS), expected)
        folder = tool.export(weights, "peft", f"{kind} peft")
        names = AutoConfig.from_pretrained(folder).id2label
        model = AutoPeftModelForSequenceClassification.from_pretrained(folder, id2label=names, ignore_mismatched_sizes=True, **EAGER)
        Case(f"LoRA ({kind})", "bert", "peftbench → PEFT", "AutoPeftModelForSequenceClassification").compare(
            logits(model, tokenizer, TEXTS), expected)
        model = moved(get_peft_model(classifier(base, outputs), LoraConfig(
            task_type=TaskType.SEQ_CLS, r=3, target_modules=["query", "value"])))
        folder = tool.place / f"peft {kind}"
        model.save_pretrained(folder)
        model.config.problem_type = problem
        model.config.save_pretrained(folder)
        Case(f"LoRA ({kind})", "bert", "PEFT → peftbench", "PEFT").compare(
            rows(answers(tool, folder, TEXTS, key, "--backbone", base)), logits(model, tokenizer, TEXTS))


def moved(model):
    """Nothing that is trained is at its start any more."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)))
    return model.eval()


def tags_of_words(tool):
    """A tag for each word, both ways: the tags of the words' first tokens."""
    import adapters
    from adapters import AutoAdapterModel, SeqBnConfig
    from peft import AutoPeftModelForTokenClassification, LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForTokenClassification

    tags = ["O", "B-mood", "B-thing", "I-thing"]
    rows = [{"tokens": ["the", "very", "good" if i % 2 else "bad", "story", str(i)],
             "tags": ["O", "O", "B-mood", "B-thing", "I-thing"]} for i in range(120)]
    data = tool.place / "tags.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    one_hot = lambda found: [[float(tag == t) for t in tags] for tag in found]
    told = {"id2label": dict(enumerate(tags)), "label2id": {t: i for i, t in enumerate(tags)}}

    def ours(weights, *more):
        return one_hot(t for text in answers(tool, weights, TEXTS, "tags", *more) for t in text)

    def theirs(model, folder, arch, names):
        spaced = {"add_prefix_space": True} if arch == "roberta" else {}
        tokenizer = AutoTokenizer.from_pretrained(folder, **spaced)
        found = []
        for text in TEXTS:
            batch = tokenizer(text.split(), is_split_into_words=True, return_tensors="pt")
            of_word = batch.word_ids()
            batch.pop("token_type_ids", None) if arch == "distilbert" else None
            with torch.no_grad():
                best = model.eval()(**batch).logits[0].argmax(-1).tolist()
            found += [names[best[of_word.index(word)]] for word in sorted(set(of_word) - {None})]
        return one_hot(found)

    for arch in [*TINY, "llama", "modernbert"]:
        base = family(tool, arch) if arch in FAMILIES else FIXTURES / arch
        # Named by the kind of task, and, where a folder names none, by the class that it was trained in.
        modules = {"distilbert": ["q_lin", "v_lin"], "llama": ["q_proj", "v_proj"], "modernbert": ["Wqkv"]}.get(arch, ["query", "value"])
        saved = {"modules_to_save": ["head"]} if arch == "modernbert" else {}
        for what, options in [("LoRA (tags of words)", {"task_type": TaskType.TOKEN_CLS, **saved}),
                              ("LoRA without task_type (tags of words)", {"modules_to_save": ["classifier", "score", "head"]})]:
            torch.manual_seed(5)
            model = AutoModelForTokenClassification.from_pretrained(base, ignore_mismatched_sizes=True, **told)
            model = moved(get_peft_model(model, LoraConfig(r=3, target_modules=modules, **options)))
            folder = tool.place / f"peft {arch} {what}"
            model.save_pretrained(folder)
            model.config.save_pretrained(folder)
            Case(what, arch, "PEFT → peftbench", "PEFT").compare(
                ours(folder, "--backbone", base), theirs(model, base, arch, told["id2label"]))
        if arch == "modernbert":  # of one layer here, and of two there: not written
            continue
        weights = trained(tool, f"tags {arch}", data, "lora", base, "--objective", "tokens", "--set", "recipe.head_learning_rate=0.02")
        expected = ours(weights)
        folder = tool.export(weights, "merged", f"tags {arch} merged")
        model = AutoModelForTokenClassification.from_pretrained(folder)
        assert sorted(model.config.id2label.values()) == sorted(tags), model.config.id2label
        Case("LoRA, merged (tags of words)", arch, "peftbench → transformers", "AutoModelForTokenClassification").compare(
            theirs(model, folder, arch, model.config.id2label), expected)
        folder = tool.export(weights, "peft", f"tags {arch} peft")
        names = AutoConfig.from_pretrained(folder).id2label
        model = AutoPeftModelForTokenClassification.from_pretrained(folder, id2label=names, ignore_mismatched_sizes=True)
        Case("LoRA (tags of words)", arch, "peftbench → PEFT", "AutoPeftModelForTokenClassification").compare(
            theirs(model, base, arch, model.config.id2label), expected)
    base = FIXTURES / "bert"
    for head in ["transformers' head", "AdapterHub's head"]:
        torch.manual_seed(5)
        if head.startswith("t"):
            model = AutoModelForTokenClassification.from_pretrained(base, ignore_mismatched_sizes=True, **told)
            adapters.init(model)
            model.add_adapter("task", config=SeqBnConfig(reduction_factor=8))
        else:
            model = AutoAdapterModel.from_pretrained(base)
            model.add_adapter("task", config=SeqBnConfig(reduction_factor=8))
            model.add_tagging_head("task", num_labels=len(tags), id2label=told["id2label"])
        model.train_adapter("task")
        moved(model)
        folder = tool.place / f"hub tags {head[:5]}"
        model.save_adapter(str(folder), "task", with_head=True, use_safetensors=True)
        Case(f"Pfeiffer, {head} (tags of words)", "bert", "AdapterHub → peftbench", "adapters").compare(
            ours(folder, "--backbone", base), theirs(model, base, "bert", told["id2label"]))
    weights = trained(tool, "tags adapter", data, "adapter", base, "--objective", "tokens", "--set", "recipe.head_learning_rate=0.02",
                      "--set", "adapter.placement=pfeiffer", "--set", "adapter.reduction_factor=8")
    folder = tool.export(weights, "adapterhub", "tags adapter hub")
    model = AutoAdapterModel.from_pretrained(base)
    model.load_adapter(str(folder), set_active=True, use_safetensors=True)
    names = {i: name for name, i in json.loads((folder / "head_config.json").read_text())["config"]["label2id"].items()}
    Case("Pfeiffer (tags of words)", "bert", "peftbench → AdapterHub", "AutoAdapterModel.load_adapter").compare(
        theirs(model, base, "bert", names), ours(weights))


def completions(tool):
    """Texts over a tied Llama: what is written, and the perplexity of the true texts, as PEFT and transformers have them."""
    import peft
    from transformers import AutoModelForCausalLM

    base = family(tool, "llama_scaled")
    (base / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>",
        "model_input_names": ["input_ids", "attention_mask"]}))
    tokenizer, end, most = AutoTokenizer.from_pretrained(base), 2, 8
    things, moods = ["film", "story", "movie", "voice"], ["good", "great", "bad", "dull", "odd"]
    rows = [(f"the {thing} was {mood} and {length}", text)
            for thing in things for mood in moods for length in ["short", "long"]
            for text in ([f"a very good {thing}", "great"] if mood in ("good", "great") else [f"not that {length} but odd"])]
    data = tool.place / "completions.csv"
    data.write_text("prompt,completion\n" + "".join(f"{p},{c}\n" for p, c in rows))
    how = ["--objective", "completion", "--max-new-tokens", most]
    prompts = sorted({p for p, _ in rows})

    def theirs(model):
        model.eval()
        texts, nats, tokens = [], 0.0, 0
        with torch.no_grad():
            for prompt in prompts:
                inputs = tokenizer(prompt + "\n", return_tensors="pt")
                written = model.generate(**inputs, do_sample=False, max_new_tokens=most)
                texts.append(tokenizer.decode(written[0, inputs.input_ids.shape[1]:], skip_special_tokens=True))
            for prompt, completion in rows:
                of_prompt, own = tokenizer(prompt + "\n").input_ids, tokenizer(completion).input_ids + [end]
                ids = torch.tensor([of_prompt + own])
                labels = torch.tensor([[-100] * len(of_prompt) + own])
                loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
                nats, tokens = nats + float(loss) * len(own), tokens + len(own)
        return texts, float(np.exp(nats / tokens))

    for what, method, settings in [
        ("LoRA", "lora", ["lora.rank=3", "lora.learning_rate=0.05"]),
        ("DoRA", "dora", ["dora.rank=3", "dora.learning_rate=0.05"]),
        ("IA3", "ia3", ["ia3.learning_rate=0.05"]),
        ("layer norms", "layer_norm", ["layer_norm.learning_rate=0.05"]),
        ("prompt tuning", "prompt_tuning", ["prompt_tuning.virtual_tokens=4"]),
        ("P-tuning", "p_tuning", ["p_tuning.virtual_tokens=4"]),
        ("prefix tuning", "prefix_tuning", ["prefix_tuning.virtual_tokens=4"]),
        ("full", "full", ["full.learning_rate=0.01"]),
    ]:
        sets = [part for setting in settings for part in ("--set", setting)]
        weights = trained(tool, f"writes {method}", data, method, base, *how, *sets)
        ours = answers(tool, weights, prompts, "completion")
        evaluated = json.loads(tool.run("evaluate", "--weights", weights, "--dataset", data, "--split", "all", "--json", "--offline", *how))
        perplexity = evaluated["metrics"]["perplexity"]
        if method != "full":
            folder = tool.export(weights, "peft", f"writes {method} peft")
            model = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
            Case(f"{what} (completions)", "llama", "peftbench → PEFT", "AutoPeftModelForCausalLM").written(
                ours, *swap(theirs(model), perplexity))
        if method in ("lora", "dora", "ia3", "layer_norm", "full"):
            folder = tool.export(weights, "merged", f"writes {method} merged")
            model = AutoModelForCausalLM.from_pretrained(folder)
            Case(f"{what}, merged (completions)", "llama", "peftbench → transformers", "AutoModelForCausalLM").written(
                ours, *swap(theirs(model), perplexity))


def swap(found, perplexity):
    """Their texts, our perplexity, theirs."""
    texts, own = found
    return texts, perplexity, own


def sst2(tool, folder, validation, training):
    """The real thing: minilm on SST-2, both ways, all 872 validation sentences."""
    import pyarrow.parquet as parquet
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    def table(path):
        rows = parquet.read_table(path).to_pydict()
        return rows["sentence"], rows["label"]

    texts, labels = table(validation)
    train_texts, train_labels = table(training)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train_texts, train_labels = train_texts[:4000], train_labels[:4000]
    accuracy = lambda rows: float((np.asarray(rows).argmax(1) == np.array(labels)).mean())

    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"])
    model = get_peft_model(classifier(folder), config)
    train(model, tokenizer, train_texts, train_labels, steps=100, batch=32, rate=1e-3)
    model.peft_config["default"].base_model_name_or_path = "sentence-transformers/all-MiniLM-L6-v2"
    out = tool.place / "sst2-peft"
    model.save_pretrained(out)
    theirs = logits(model, tokenizer, texts)
    ok = Case("LoRA on SST-2", "minilm", "PEFT → peftbench", "PEFT").compare(tool.predict(out, texts), theirs)
    evaluated = json.loads(tool.run("evaluate", "--weights", out, "--dataset", "sst2", "--offline", "--json"))
    print(f"  trained by PEFT: accuracy {accuracy(theirs):.4f} in PEFT, {evaluated['metrics']['accuracy']:.4f} here, "
          f"{evaluated['examples']} examples")
    assert abs(accuracy(theirs) - evaluated["metrics"]["accuracy"]) < 1e-9 and ok

    weights = tool.train("sst2-ours", "lora", "minilm", "backbone.pooling=pooler", data="sst2")
    ours = tool.predict(weights, texts)
    back = PeftModel.from_pretrained(classifier(folder), tool.export(weights, "peft", "sst2-ours-peft"))
    got = logits(back, tokenizer, texts)
    Case("LoRA on SST-2", "minilm", "peftbench → PEFT", "PeftModel.from_pretrained").compare(got, ours)
    evaluated = json.loads(tool.run("evaluate", "--weights", weights, "--dataset", "sst2", "--offline", "--json"))
    print(f"  trained here: accuracy {evaluated['metrics']['accuracy']:.4f} here, {accuracy(got):.4f} in PEFT")
    assert abs(accuracy(got) - evaluated["metrics"]["accuracy"]) < 1e-9


def versions():
    import adapters
    import peft

    return ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, transformers, peft, adapters))


def write_table(path):
    """The table between two marks of a Markdown file; what stands around it stays."""
    lines = ["| what | model | way | read by | largest difference of logits | equal predictions |", "|---|---|---|---|---|---|"]
    for what, model, way, reader, difference, same, count, _ in Case.rows:
        lines.append(f"| {what} | {model} | {way} | {reader} | {difference:.0e} | {same} of {count} |")
    lines += ["", f"Found by `just interop` with {versions()}. Differences are relative to the largest logit; of completions they are those of "
                  "the true texts' perplexity, and a prediction is a whole text that is written."]
    begin, end = "<!-- found by just interop -->", "<!-- end -->"
    text = path.read_text()
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    path.write_text(f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--table", type=Path, help="a Markdown file with the marks")
    parser.add_argument("--minilm", type=Path, help="folder of minilm's files; with SST-2's, the large case is run too")
    parser.add_argument("--sst2", type=Path, help="folder of SST-2's parquet files")
    parser.add_argument("--only", default="", help="parts to run, by their names")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as place:
        tool = Tool(args.binary, Path(place))
        for part in (from_peft, from_adapters, to_python, to_adapters, families, numbers_and_sets, tags_of_words, completions):
            if args.only in part.__name__:
                part(tool)
        if args.minilm and args.sst2 and args.only in "sst2":
            sst2(tool, args.minilm, next(args.sst2.glob("validation*")), next(args.sst2.glob("train*")))
        else:
            print("minilm on SST-2: skipped (large): give --minilm and --sst2, the folders that peftbench fetch minilm sst2 fills")
            if "large" in os.environ.get("PEFTBENCH_REQUIRE", "").split(","):
                sys.exit(1)
    failed = [row for row in Case.rows if not row[-1]]
    print(f"{len(Case.rows)} cases, {len(failed)} failed; largest difference {max(r[4] for r in Case.rows):.1e}")
    if failed:
        sys.exit(1)
    if args.table:
        write_table(args.table)


if __name__ == "__main__":
    main()
