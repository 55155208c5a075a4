"""Writes a few valid inputs for each reader, from which the fuzzer starts: python3 seeds.py CORPUS [RECORDS]"""

import io
import json
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
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


CSV = "text,label\ngood film,1\n\"bad, \"\"very\"\" bad\",0\n\"two\nlines\",1\nnaïve,0\n" * 8
JSONL = '{"text": "good", "label": 1}\n{"text": "bad\\n", "label": 0}\n' * 8
INNER = tar("rows.csv", CSV.encode())

seed("safetensors", *(p.read_bytes() for p in sorted(FIXTURES.glob("peft/*/adapter_model.safetensors"))[:3]))
seed("gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama")
seed("index", json.dumps({"metadata": {}, "weight_map": {"embeddings.LayerNorm.weight": "model-00001-of-00001.safetensors"}}))
seed("config", *((FIXTURES / name / "config.json").read_bytes() for name in ["bert", "roberta", "distilbert"]))
seed("tokenizer", *((FIXTURES / name / "tokenizer.json").read_bytes() for name in ["bert", "roberta"]))
seed("tokenizer_config", '{"do_lower_case": false, "model_max_length": 20, "added_tokens_decoder": {"5": {"content": "xx"}}}')
seed("vocabulary", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nfilm\n##s\n")
seed("peft", *(p.read_bytes() for p in sorted(FIXTURES.glob("peft/*/adapter_config.json"))))
seed("adapterhub", *(p.read_bytes() for p in sorted(FIXTURES.glob("adapterhub/*/adapter_config.json"))))
seed("head", *(p.read_bytes() for p in sorted(FIXTURES.glob("adapterhub/*/head_config.json"))))
seed("yaml", *(p.read_bytes() for p in sorted((FIXTURES.parent.parent / "datasets").glob("*.yaml"))))
seed("csv", CSV, CSV.replace(",", ";"), "\ufeff" + CSV, CSV.encode("utf-16"))
seed("tsv", CSV.replace(",", "\t"))
seed("jsonl", JSONL)
seed("parquet", b"PAR1\0\0\0\0PAR1")
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
if len(sys.argv) > 2:
    seed("record", *(p.read_bytes() for p in sorted(Path(sys.argv[2]).glob("*.json"))[:3]))
else:
    seed("record", "{}")
