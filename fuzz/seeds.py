"""Writes a few valid inputs for each reader, from which the fuzzer starts: python3 seeds.py CORPUS"""

import gzip
import io
import json
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
CORPUS = Path(sys.argv[1])


def seed(reader, *contents):
    folder = CORPUS / reader
    folder.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"seed{i}").write_bytes(content.encode() if isinstance(content, str) else content)


def tar(name, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def short(record):
    """A record with the first few examples and steps, so that its other parts are what is changed."""
    outcome, cost = record["outcome"], record["cost"]
    outcome["loss"], cost["step_seconds"] = outcome["loss"][:8], cost["step_seconds"][:8]
    predictions = outcome["predictions"]
    for key in predictions:
        predictions[key] = predictions[key][:20]
    for evaluation in outcome["evaluations"]:
        evaluation.pop("predicted", None)
    return json.dumps(record)


def text(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(kind):
    """A Llama of one layer and four tokens, its matrices in f32 (0) or in blocks of eight bits (8)."""
    hidden, tokens = 32, ["a", "b", "ab", "<s>"]
    fields = {"general.architecture": "llama", "llama.block_count": 1, "llama.embedding_length": hidden,
              "llama.attention.head_count": 2, "llama.feed_forward_length": hidden, "llama.context_length": 16,
              "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
              "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.eos_token_id": 3}

    def value(of):
        if isinstance(of, str):
            return struct.pack("<I", 8) + text(of)
        if isinstance(of, list):
            return struct.pack("<IIQ", 9, 8, len(of)) + b"".join(map(text, of))
        return struct.pack("<If", 6, of) if isinstance(of, float) else struct.pack("<II", 4, of)

    shapes = {"token_embd": [len(tokens), hidden], "output_norm": [hidden], "blk.0.attn_norm": [hidden], "blk.0.ffn_norm": [hidden]}
    shapes |= {f"blk.0.{name}": [hidden, hidden]
               for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]}
    header, data = b"", b""
    for name, shape in shapes.items():
        own = kind if len(shape) == 2 else 0
        count = len(tokens) * hidden if name == "token_embd" else hidden ** len(shape)
        header += text(name + ".weight") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        header += struct.pack("<IQ", own, len(data))
        data += struct.pack("<f", 0.5) * count if own == 0 else (struct.pack("<e", 0.01) + bytes(range(32))) * (count // 32)
        data += bytes(-len(data) % 32)
    start = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(fields))
    start += b"".join(text(key) + value(of) for key, of in fields.items()) + header
    return start + bytes(-len(start) % 32) + data


CSV = "text,label\ngood film,1\n\"bad, \"\"very\"\" bad\",0\n\"two\nlines\",1\nnaïve,0\n" * 8
JSONL = '{"text": "good", "label": 1}\n{"text": "bad\\n", "label": 0}\n' * 8
INNER = tar("rows.csv", CSV.encode())

seed("safetensors", *(p.read_bytes() for p in sorted(FIXTURES.glob("peft/*/adapter_model.safetensors"))[:3]))
seed("gguf", gguf(0), gguf(8), b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("general.architecture") + struct.pack("<I", 8) + text("llama"))
seed("index", json.dumps({"metadata": {}, "weight_map": {"embeddings.LayerNorm.weight": "model-00001-of-00001.safetensors"}}))
seed("config", *((FIXTURES / name / "config.json").read_bytes() for name in ["bert", "roberta", "distilbert"]))
seed("tokenizer", *((FIXTURES / name / "tokenizer.json").read_bytes() for name in ["bert", "roberta"]))
seed("tokenizer_config", '{"do_lower_case": false, "model_max_length": 20, "added_tokens_decoder": {"5": {"content": "xx"}}}')
seed("chat", "{% for m in messages %}{{ bos_token }}[{{ m['role'] }}]\n{{ m.content | trim }}{{ eos_token }}{% endfor %}"
     "{% if add_generation_prompt %}[assistant]\n{% endif %}",
     "{% set ns = namespace(x='') %}{%- for m in messages[::-1] %}{% set ns.x = m.content.split('\n', 1)[-1] %}{% endfor %}{{ ns.x }}")
seed("vocabulary", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nfilm\n##s\n")
seed("peft", *(p.read_bytes() for p in sorted(FIXTURES.glob("peft/*/adapter_config.json"))))
seed("adapterhub", *(p.read_bytes() for p in sorted(FIXTURES.glob("adapterhub/*/adapter_config.json"))))
seed("head", *(p.read_bytes() for p in sorted(FIXTURES.glob("adapterhub/*/head_config.json"))))
seed("yaml", *(p.read_bytes() for folder in ["datasets", "studies", "suites"] for p in sorted((ROOT / folder).glob("*.yaml"))))
seed("csv", CSV, CSV.replace(",", ";"), "\ufeff" + CSV, CSV.encode("utf-16"))
seed("tsv", CSV.replace(",", "\t"))
seed("jsonl", JSONL)
seed("parquet", b"PAR1\0\0\0\0PAR1", *(p.read_bytes() for p in sorted((ROOT / "datasets/tests/fixtures").glob("**/*.parquet"))))
seed("lines", "good\nbad\n", CSV, JSONL)
seed("tar", tar("net/rows.tar.gz", INNER))
out = io.BytesIO()
with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
    file.writestr("net/rows.tar.gz", INNER)
seed("zip", out.getvalue())
links = '<a href="net-1.0-py3-none-any.whl#sha256=' + "0" * 64 + '" data-yanked="">net-1.0-py3-none-any.whl</a>'
seed("simple_index", f"<html><base href='/x/'><body>{links}</body></html>",
     json.dumps({"meta": {"api-version": "1.1"}, "name": "net",
                 "files": [{"filename": "net-1.0-py3-none-any.whl", "url": "net-1.0-py3-none-any.whl", "size": 7,
                            "hashes": {"sha256": "0" * 64}, "yanked": False}]}))
RECORDS = sorted((ROOT / "docs" / "example" / "records").glob("*.json.gz"))[::7]
RECORDS = [short(json.loads(gzip.decompress(p.read_bytes()))) for p in RECORDS]
seed("record", *RECORDS)
seed("report", *RECORDS)
LINE = {"format": 2, "line": [1, 1], "id": "0123456789abcdef", "label": "lora", "plan": {}}
seed("plan", json.dumps(LINE), "{}")
seed("saved", json.dumps({"format": 1, "method": "lora", "config": {"rank": 8}, "backbone": "minilm", "backbone_digest": "0",
                          "pooling": "mean", "head": "linear", "labels": ["a", "b"], "dataset": "d", "max_tokens": 64,
                          "metrics": {"accuracy": 0.5}}))
SERIES = [{"method": "lora", "label": "lora", "points": [{"value": 1.0, "runs": ["0123456789abcdef"]}]}]
seed("manifest", "{}", json.dumps({"title": "Rank", "question": "?", "x": {"title": "rank"}, "series": SERIES}),
     json.dumps({"title": "Latency", "tables": []}), json.dumps({"0": {"margin": 0.01, "looks": [3, 5]}}))
