"""The Python package against the real program: python -m pytest python/tests (PEFTBENCH_BINARY names the program).

Written so that it also runs without pytest: python python/tests/test_peftbench.py
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import peftbench  # noqa: E402

BACKBONE = str(Path(__file__).parents[2] / "tests" / "fixtures" / "bert")
SHORT = {"recipe.steps": 6, "recipe.evaluations": 1, "recipe.batch": 8}
COLUMNS = {"text_column": "review", "label_column": "stars", "backbone": BACKBONE, "budget": "quick", "offline": True}


def skip(why):
    """Says why a test does not run here; where PEFTBENCH_REQUIRE names interop, that is a failure."""
    assert "interop" not in os.environ.get("PEFTBENCH_REQUIRE", "").split(","), why
    print("skipped (interop):", why)


def rows():
    words = {"up": "good fine great", "down": "bad poor awful"}
    return [{"review": f"{words[label]} number {i}", "stars": label} for i in range(120) for label in words]


def place():
    folder = Path(tempfile.mkdtemp())
    lines = ["review,stars", *(f"{row['review']},{row['stars']}" for row in rows())]
    (folder / "reviews.csv").write_text("\n".join(lines) + "\n")
    return folder


def compared(folder, **more):
    return peftbench.compare(folder / "reviews.csv", methods=["lora", "head_only"], seeds=1, settings=SHORT,
                             out=folder / "out", **COLUMNS, **more)


def test_a_comparison_has_a_table_an_answer_events_and_html():
    folder, events = place(), []
    found = compared(folder, on_event=events.append)
    assert {row["method"] for row in found.table} == {"lora", "head_only"}
    assert "nothing is ranked" in found.answer and found.recommended is None
    assert [e["event"] for e in events][0] == "planned" and all("time" in e for e in events)
    html = found._repr_html_()
    assert "<table>" in html and "lora" in html and "accuracy_mean" in html
    again = []
    compared(folder, on_event=again.append)
    assert sum(e["event"] == "reused" for e in again) == 2


def test_a_comparison_knows_its_folder_where_none_was_named():
    folder, before = place(), os.getcwd()
    os.chdir(folder)
    try:
        found = peftbench.compare("reviews.csv", methods=["head_only"], seeds=1, settings=SHORT, **COLUMNS)
    finally:
        os.chdir(before)
    assert found.folder.is_absolute() and (found.folder / "report.html").is_file()
    assert found.folder.resolve().parent == (folder / "reports" / "out").resolve()


def test_records_are_a_data_frame_with_a_row_per_run():
    folder = place()
    compared(folder)
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        return skip(error)
    frame = peftbench.records(folder / "out")
    assert len(frame) == 2 and set(frame["method"]) == {"lora", "head_only"}


def test_a_data_frame_is_compared_and_its_runs_are_found_again():
    try:
        import pandas
    except ImportError as error:
        return skip(error)

    class Polars:
        """What a frame of polars has of interest here."""

        def write_csv(self):
            return pandas.DataFrame(rows()).to_csv(index=False)

    folder = place()
    for frame, event in [(pandas.DataFrame(rows()), "started"), (pandas.DataFrame(rows()), "reused"), (Polars(), "reused")]:
        events = []
        found = peftbench.compare(frame, methods=["head_only"], seeds=1, settings=SHORT, out=folder / "out",
                                  on_event=events.append, **COLUMNS)
        assert len(found.table) == 1 and event in [e["event"] for e in events], events


def test_weights_predict_labels_and_limits_are_recommended_by():
    folder = place()
    compared(folder)
    weights = sorted((folder / "out" / "weights").iterdir())[0]
    labels = peftbench.predict(weights, ["good fine great", "bad poor awful"], offline=True)
    assert set(labels) <= {"up", "down"} and len(labels) == 2
    found = peftbench.recommend("reviews", records=folder / "out", max_size="100KB")
    assert found["candidates"] and found["answer"]


def test_a_refusal_is_an_error_with_the_words_of_the_program():
    try:
        peftbench.compare("sst2", methods=["lorra"], offline=True)
    except peftbench.Error as error:
        assert "did you mean 'lora'" in str(error), error
    else:
        raise AssertionError("it was not refused")


def test_what_compares_nothing_says_how_its_events_are_heard():
    try:
        compared(place(), dry_run=True)
    except peftbench.Error as error:
        assert "on_event" in str(error), error
    else:
        raise AssertionError("there was a comparison")


def test_flags_and_settings_are_those_of_the_command_line():
    assert peftbench._flags({"text_column": ["a", "b"], "offline": True, "seeds": 3, "out": None, "quiet": False}) == \
        ["--text-column", "a", "--text-column", "b", "--offline", "--seeds", "3"]
    assert peftbench._settings({"lora.rank": 4, "lora.target_modules": ["query"]}) == \
        ["--set", "lora.rank=4", "--set", 'lora.target_modules=["query"]']


def test_an_export_for_peft_is_loaded_with_its_labels():
    try:
        import peft  # noqa: F401
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        return skip(error)
    folder = place()
    found = peftbench.compare(folder / "reviews.csv", methods=["lora"], seeds=1, out=folder / "out",
                              settings={**SHORT, "backbone.pooling": "pooler"}, **COLUMNS)
    assert found.table
    weights = next((folder / "out" / "weights").iterdir())
    peftbench.run("export", "--weights", str(weights), "--format", "peft", "--out", str(folder / "peft"), "--offline")
    model, tokenizer = peftbench.load_peft(folder / "peft")
    texts = [row["review"] for row in rows()[:8]]
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    ours = [json.loads(line)["logits"] for line in peftbench.run(
        "predict", "--weights", str(weights), "--offline", "--format", "jsonl",
        input="".join(json.dumps({"text": t}) + "\n" for t in texts)).splitlines()]
    assert (logits - torch.tensor(ours)).abs().max() < 1e-4
    assert model.config.id2label == {0: "down", 1: "up"}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name)
