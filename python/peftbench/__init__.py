"""Which parameter-efficient fine-tuning method for my task, on my frozen transformer, and how sure can I be?

    import peftbench

    found = peftbench.compare("reviews.csv", text_column="review", label_column="stars")
    found                      # in a notebook: the table
    found.answer               # in words
    found.frame()              # as a pandas data frame
    peftbench.records(found.folder)
    peftbench.recommend("reviews", records=found.folder, max_size="100KB")["answer"]

Everything is done by the `peftbench` program, which comes with this package; keyword arguments are its flags
(`text_column="review"` is `--text-column review`; see `peftbench compare --help`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Comparison", "Error", "binary", "compare", "load_peft", "predict", "recommend", "records", "run", "sweep"]

Event = dict[str, Any]
Settings = Mapping[str, object]


class Error(RuntimeError):
    """The program refused or failed; the message is what it said."""


def binary() -> str:
    """The program: $PEFTBENCH_BINARY, the one that came with this package, or the one on the path."""
    if named := os.environ.get("PEFTBENCH_BINARY"):
        return named
    name = "peftbench" + (sysconfig.get_config_var("EXE") or "")
    here = Path(sysconfig.get_path("scripts"), name)
    found = str(here) if here.exists() else shutil.which(name)
    if not found:
        raise Error("the program peftbench was not found; reinstall the package, or set PEFTBENCH_BINARY")
    return found


def _flags(options: Mapping[str, object]) -> list[str]:
    """`text_column="a"` as `--text-column a`; a list repeats the flag, True is the flag alone, None and False nothing."""
    flags: list[str] = []
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                flags.append(flag)
            elif one is not None and one is not False:
                flags += [flag, str(one)]
    return flags


def _settings(settings: Settings | None) -> list[str]:
    written = {key: json.dumps(value) if isinstance(value, (bool, list)) else value
               for key, value in (settings or {}).items()}
    return [part for key, value in written.items() for part in ("--set", f"{key}={value}")]


def run(*arguments: str, on_event: Callable[[Event], None] | None = None, input: str | None = None) -> str:
    """Runs the program and returns what it printed.

    `on_event` is called with each object of a stream of JSON lines (docs/EVENTS.md) as it comes. What the program says on
    standard error (notes, progress) is shown where Python's is.

    Raises Error if it ends with anything but success (some runs of a comparison may have failed: code 1).
    """
    lines: list[str] = []
    said: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as given:
        given.write(input or "")
        given.seek(0)
        with subprocess.Popen([binary(), *arguments], stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, encoding="utf-8") as process:
            assert process.stdout and process.stderr
            def listen(stream: Iterable[str]) -> None:
                for line in stream:
                    said.append(line)
                    sys.stderr.write(line)

            listener = threading.Thread(target=listen, args=(process.stderr,), daemon=True)
            listener.start()
            for line in process.stdout:
                lines.append(line)
                if on_event and line.startswith("{"):
                    on_event(json.loads(line))
            listener.join()
    if process.returncode not in (0, 1) or (process.returncode == 1 and not lines):
        errors = [line.strip() for line in said if line.startswith("error")] or said[-3:]
        raise Error(" ".join(errors) or f"peftbench ended with code {process.returncode}")
    return "".join(lines)


@dataclass(frozen=True)
class Comparison:
    """Methods compared on one data set over one backbone: what `peftbench report --format json` says of them."""

    data: dict[str, Any]
    folder: Path | None = None
    """Where records, weights and the report are (report.html)."""

    @property
    def name(self) -> str:
        """Data set, backbone, and what sets it apart."""
        return self.data["name"]

    @property
    def answer(self) -> str:
        """What is shown of the methods, in words."""
        return " ".join(self.data["answer"])

    @property
    def recommended(self) -> str | None:
        """The cheapest method shown to be near the best, if one is."""
        return self.data["recommended"]

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row per method, highest mean first, in basic units (fractions, seconds, bytes, milliseconds)."""
        return self.data["table"]

    def frame(self) -> pandas.DataFrame:
        """The table as a pandas data frame."""
        import pandas

        return pandas.DataFrame(self.table)

    def _repr_html_(self) -> str:
        metric = self.data["dataset"]["main_metric"]
        wanted = ["label", "letters", f"{metric}_mean", f"{metric}_sd", f"{metric}_low_95", f"{metric}_high_95", "parameters",
                  "training_seconds", "peak_memory_bytes", "latency_over_backbone", "file_bytes"]
        columns = [name for name in wanted if any(row.get(name) is not None for row in self.table)]

        def cell(value: object) -> str:
            return "" if value is None else escape(f"{value:.4g}" if isinstance(value, float) else f"{value}")

        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(f"<tr>{''.join(f'<td>{cell(row.get(name))}</td>' for name in columns)}</tr>" for row in self.table)
        return (f"<table><caption>{escape(self.name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
                f"<p>{escape(self.answer)}</p>")


def _streamed(command: str, dataset: Any, arguments: list[str], last: str,
              on_event: Callable[[Event], None] | None) -> Event:
    """Runs a command with --json and returns its last event."""
    found: Event = {}

    def hear(event: Event) -> None:
        found.update(event) if event.get("event") == last else None
        if on_event:
            on_event(event)

    if hasattr(dataset, "to_csv") or hasattr(dataset, "write_csv"):
        # The same rows have the same name, so that a second call finds the runs of the first.
        text = dataset.to_csv(index=False) if hasattr(dataset, "to_csv") else dataset.write_csv()
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir(), f"peftbench-{digest}.csv")
        path.write_text(text, encoding="utf-8")
        dataset = path
    run(command, str(dataset), *arguments, "--json", on_event=hear)
    if not found:
        raise Error(f"peftbench {command} gave no '{last}' (a suite, dry_run and plan_only give other events: "
                    f'run("{command}", …, "--json", on_event=…) passes them on)')
    return found


def compare(dataset: Any, *, methods: Iterable[str] | None = None, seeds: int | None = None, settings: Settings | None = None,
            out: str | Path | None = None, on_event: Callable[[Event], None] | None = None, **flags: object) -> Comparison:
    """Trains methods on a data set over one frozen backbone and compares them; runs that have a record are not made again.

    dataset   a name, a file, `hub:OWNER/NAME`, or a data frame of pandas or polars
    methods   names, default the standard ones; `["all"]` for all
    seeds     per method; verdicts need three
    settings  overrides such as `{"lora.rank": 4, "recipe.steps": 200}`
    out       folder of records, weights and report
    flags     those of `peftbench compare`, such as `text_column`, `label_column`, `backbone`, `budget`, `offline`

    Of a suite (`glue-small`) there is no single comparison: `run("compare", "glue-small")` returns its tables.
    """
    chosen = ",".join(methods) if methods else None
    arguments = [*_settings(settings), *_flags({"methods": chosen, "seeds": seeds, "out": out, **flags})]
    found = _streamed("compare", dataset, arguments, "compared", on_event)
    if not found["comparisons"]:
        raise Error("no run ended well")
    return Comparison(found["comparisons"][0], Path(found["folder"]).absolute())


def sweep(dataset: Any, study: str, *, seeds: int | None = None, settings: Settings | None = None,
          out: str | Path | None = None, on_event: Callable[[Event], None] | None = None, **flags: object) -> dict[str, Any]:
    """Varies one thing (`peftbench list studies`, or a YAML); returns the study: series of points with verdicts."""
    arguments = ["--study", study, *_settings(settings), *_flags({"seeds": seeds, "out": out, **flags})]
    return _streamed("sweep", dataset, arguments, "study", on_event)["study"]


def recommend(dataset: str, *, records: str | Path = "reports/out", **limits: object) -> dict[str, Any]:
    """The method that keeps to limits (`max_size="100KB"`, `max_latency_overhead="5%"`, …), with `answer` and `candidates`."""
    return json.loads(run("recommend", "--dataset", dataset, "--records", str(records), "--json", *_flags(limits)))


def records(folder: str | Path = "reports/out", *,
            frame: Literal["pandas", "polars"] = "pandas") -> pandas.DataFrame | polars.DataFrame:
    """All runs of a comparison's folder, one a row, as a data frame."""
    file = Path(folder, "records.parquet")
    if not file.exists():
        run("report", "--records", str(folder))
    if frame == "polars":
        import polars

        return polars.read_parquet(file)
    import pandas

    return pandas.read_parquet(file)


def predict(weights: str | Path, texts: Iterable[str], **flags: object) -> list[Any]:
    """The label of each text, by saved weights (ours, or of Hugging Face PEFT or AdapterHub).

    Of weights with another objective: the labels of each text (multi_label), its number (regression), the tags of its words (tokens;
    None of a word that was cut off), the text that is written behind it (completion).
    """
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    answers = run("predict", "--weights", str(weights), "--format", "jsonl", *_flags(flags), input=rows)
    # (A text may hold other line ends than the one behind an answer.)
    found = map(json.loads, filter(None, answers.split("\n")))
    return [next(answer[key] for key in ("label", "labels", "prediction", "tags", "completion") if key in answer) for answer in found]


def load_peft(folder: str | Path, **options: Any) -> tuple[Any, Any]:
    """A folder that `peftbench export --format peft` wrote, as a `PeftModel` ready to predict, and its tokenizer.

    `options` go to `from_pretrained` of the class of transformers that holds the model.
    """
    import peft
    import transformers

    adapter = json.loads(Path(folder, "adapter_config.json").read_text())
    base = {"pretrained_model_name_or_path": adapter["base_model_name_or_path"], "revision": adapter.get("revision") or "main"}
    classes = {"SEQ_CLS": "AutoModelForSequenceClassification", "TOKEN_CLS": "AutoModelForTokenClassification"}
    if adapter["task_type"] == "CAUSAL_LM":
        raise Error(f"{folder} answers with the words of a language model; its README.md has the lines that load and ask it")
    if adapter["task_type"] not in classes:
        raise Error(f"{folder}: its classifier is in a file of its own; use head.py beside it")
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, classes[adapter["task_type"]]).from_pretrained(
        **base, config=config, ignore_mismatched_sizes=True, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**base)
    return peft.PeftModel.from_pretrained(model, folder).eval(), tokenizer
