"""Drives the report's page in headless Chromium: python page.py REPORTS_DIR [SCREENSHOTS_DIR]

REPORTS_DIR is what `cargo run --example sample_report -- DIR` wrote. Needs the
`playwright` package and Debian's `chromium`; where one is missing it says so and ends with 0.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def skip(reason):
    """Where PEFTBENCH_REQUIRE names page, that is a failure."""
    print(f"page test skipped: {reason}")
    sys.exit("page" in os.environ.get("PEFTBENCH_REQUIRE", "").split(","))


if not CHROMIUM:
    skip("there is no Chromium; on Debian: apt-get install chromium")
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    skip("there is no playwright; pip install playwright (no browser download needed)")


class Page:
    """A report opened at a width, with everything it says and asks for."""

    def __init__(self, browser, path, width, scheme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def close(self):
        assert not self.said, f"{self.url}: the console says {self.said}"
        leaving = [u for u in self.asked if u.split("#")[0] != self.url and not u.startswith("data:")]
        assert not leaving, f"{self.url}: the page asks for {leaving}"
        self.context.close()


def column(page, n):
    return page.locator(".results").first.locator(f"tbody tr:visible > :nth-child({n})").all_inner_texts()


def methods(page):
    return [text.split()[0] for text in column(page, 1)]


def sorting(page):
    page.get_by_role("button", name="trained parameters", exact=False).first.click()
    first = [m for m in methods(page) if m not in ("ia3", "prefix_tuning")]
    assert first[0] == "head_only" and first[-1] == "full", first
    # Rows without the value stay last, whichever way.
    assert set(methods(page)[-2:]) == {"ia3", "prefix_tuning"}
    heading = page.locator(".results").first.locator("thead th").nth(5)
    assert heading.get_attribute("aria-sort") == "ascending"
    # From the keyboard.
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert methods(page)[0] == "full" and set(methods(page)[-2:]) == {"ia3", "prefix_tuning"}
    # Times are sorted as numbers, not as text (9.5 s before 88 s).
    page.locator(".results").first.locator("thead th").nth(8).get_by_role("button").click()
    assert methods(page)[0] == "head_only", methods(page)


def filtering(page):
    box = page.get_by_label("Filter").first
    box.fill("tuning")
    assert set(methods(page)) == {"prompt_tuning", "prefix_tuning"}, methods(page)
    assert page.locator(".results output").first.inner_text() == "2 of 8 methods"
    box.fill("nothing like it")
    assert methods(page) == []
    box.fill("")
    page.locator(".results .standing").first.select_option("trouble")
    assert set(methods(page)) == {"ia3", "prefix_tuning", "bitfit"}, methods(page)
    page.locator(".results .standing").first.select_option("")
    assert len(methods(page)) == 8


def axes(page):
    chart = page.locator(".chart").first
    names = {"prompt_tuning", "lora", "adapter", "head_only", "full"}
    assert set(chart.locator("a text").all_text_contents()) == names
    assert "trained parameters" in chart.locator(".drawn svg").get_attribute("aria-label")
    page.locator(".axis-x").first.select_option("training_time")
    assert chart.locator(".drawn svg").get_attribute("aria-label") == "accuracy (%) against training time (s)"
    assert chart.locator(".broken").is_hidden()
    # Only methods that merge have a merged latency; the others are named.
    page.locator(".axis-y").first.select_option("merged_latency")
    assert chart.locator("a text").all_text_contents() == ["lora"]
    assert "full" in chart.locator(".absent").inner_text()
    page.locator(".axis-x").first.select_option("parameters")
    page.locator(".axis-y").first.select_option("metric")
    assert chart.locator(".broken").is_visible()
    for x in ["metric", "parameters", "training_time", "latency", "merged_latency", "peak_memory", "file_size"]:
        for y in ["metric", "latency", "peak_memory", "file_size"]:
            page.locator(".axis-x").first.select_option(x)
            page.locator(".axis-y").first.select_option(y)
            broken = chart.locator(".drawn svg").evaluate("s => s.outerHTML.includes('NaN')")
            assert not broken, (x, y)
    page.locator(".axis-x").first.select_option("parameters")
    page.locator(".axis-y").first.select_option("metric")


def no_names_overlap(page):
    boxes = page.locator(".chart").first.locator("a text").evaluate_all(
        "texts => texts.map(t => { const b = t.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height, t.textContent]; })"
    )
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 3 or b[3] <= a[1] + 3
            assert apart, f"{a[4]} covers {b[4]}"


def links(page):
    page.locator(".results tbody tr", has_text="lora").first.locator("td a").first.click()
    opened = page.locator("details.method[open]")
    assert opened.locator("summary").first.inner_text().strip() == "lora"
    assert "target_modules" in opened.inner_text()
    opened.locator("td a").first.click()
    record = page.locator("details.record[open]")
    assert '"seed": 0' in record.inner_text() and record.is_visible()
    assert re.fullmatch(r"#run-[0-9a-f]{16}", page.evaluate("location.hash"))


def examples(page):
    part = page.locator(".examples").first
    count = part.locator("output")
    part.locator(".kind").select_option("all")
    assert count.inner_text().startswith("872 of 872"), count.inner_text()
    assert part.locator("tbody tr").count() == 20
    part.get_by_role("button", name="Next").click()
    assert part.locator("tbody th").first.inner_text() == "20"
    part.locator(".kind").select_option("disagree")
    shown = part.locator("tbody tr").first.locator("td").all_inner_texts()[1:]
    assert len({s.replace("✗ ", "") for s in shown}) > 1, shown
    # The wrong ones of a method are what its accuracy says.
    part.locator(".kind").select_option("wrong")
    assert part.locator(".method").is_visible()
    part.locator(".method").select_option(label="lora")
    wrong = int(count.inner_text().split()[0])
    page.goto(page.url.split("#")[0] + "#c0")
    cell = page.locator("details.method", has_text="lora").first
    accuracy = cell.locator("table").nth(1).locator("tbody tr").first.locator("td").nth(1).text_content()
    assert f"{100 * (1 - wrong / 872):.1f} %" == accuracy, (wrong, accuracy)
    part.locator(".kind").select_option("all_wrong")
    assert part.locator(".method").is_hidden()
    assert "✗" in part.locator("tbody td").nth(1).inner_text()


def disagreeing(page):
    """What learns nothing from the texts is not counted where methods disagree."""
    data = json.loads(page.locator("#data").text_content())
    found = data["comparisons"][0]
    runs = [run for run in found["examples"]["runs"] if run["seed"] == found["examples"]["seeds"][0]]
    trained = [run for run in runs if not found["points"][run["row"]]["floor"]]
    # Two classes: a digit for each answer.
    differing = lambda of: sum(len(set(answers)) > 1 for answers in zip(*(run["predicted"] for run in of)))
    assert len(trained) < len(runs) and differing(trained) < differing(runs), "the sample shows nothing"
    part = page.locator(".examples").first
    part.locator(".kind").select_option("disagree")
    count = part.locator("output").inner_text()
    assert count.startswith(f"{differing(trained)} of "), count


def recommending(page):
    part = page.locator(".recommend").first
    verdict = part.locator(".verdict p").first
    # With three seeds no other method is shown to be less than the margin behind full.
    assert verdict.inner_text().startswith("full: 86.6 %"), verdict.inner_text()
    part.get_by_label("At most parameters").fill("1000000")
    said = part.locator(".verdict").inner_text()
    assert said.startswith("lora: ") or ("none is recommended" in said and "needs" in said), said
    part.get_by_label("At most parameters").fill("0")
    assert verdict.inner_text().startswith("head_only: "), verdict.inner_text()
    part.get_by_label("At least accuracy").fill("99")
    assert verdict.inner_text() == "No method keeps all of these limits."
    part.get_by_label("At least accuracy").fill("")
    part.get_by_label("At most parameters").fill("")
    # Merged, lora is as fast as the backbone; prompt tuning is not.
    part.get_by_label("more latency").fill("10")
    fits = {r.split("\t")[0]: r.split("\t")[-1] for r in part.locator("tbody tr").all_inner_texts()}
    assert fits["prompt_tuning"] == "does not fit" and fits["lora"].startswith("fits"), fits


def recommending_as_the_command(page, answers):
    part = page.locator(".recommend").first
    verdict = part.locator(".verdict p").first
    for answer in answers:
        for name, limit in answer["limits"].items():
            part.locator(f"input[name={name}]").fill(str(limit))
        expected = f"{answer['recommended']}: " if answer["recommended"] else "No method "
        assert verdict.inner_text().startswith(expected), (answer, verdict.inner_text())
        for name in answer["limits"]:
            part.locator(f"input[name={name}]").fill("")


def no_sideways_scroll(page, width):
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"the page is {wide} wide on a screen of {width}"


def contrast(page):
    """Every text against its background: 4.5 : 1 (WCAG 2.2 AA)."""
    low = page.evaluate(
        """() => {
        const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
        const light = ([r, g, b]) => { const f = c => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
          return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
        const paper = e => { for (; e; e = e.parentElement) { const b = parse(getComputedStyle(e).backgroundColor); if (b[3] > .99) return b; } return [255, 255, 255, 1]; };
        const low = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const e = walker.currentNode.parentElement;
          if (!walker.currentNode.textContent.trim() || !e.checkVisibility() || e.closest('script, [disabled]')) continue;
          const style = getComputedStyle(e), ink = parse(e.closest('svg') ? style.fill : style.color);
          const [a, b] = [light(ink), light(paper(e))].sort((x, y) => y - x);
          if ((a + .05) / (b + .05) < 4.5) low.push(walker.currentNode.textContent.trim().slice(0, 40) + ' ' + ((a + .05) / (b + .05)).toFixed(2));
        }
        return low;
      }"""
    )
    assert not low, low[:10]


def no_column_is_cut(page):
    for table in page.locator(".results .scroll").all():
        room, needed = table.evaluate("t => [t.clientWidth, t.scrollWidth]")
        assert needed <= room + 1, f"the results need {needed} pixels and have {room}"


def main():
    reports = Path(sys.argv[1]).resolve()
    shots = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        troubled = reports / "troubled" / "report.html"
        for act in [sorting, filtering, axes, links, examples, recommending]:
            opened = Page(browser, troubled, 1440)
            act(opened.page)
            opened.close()
            print(f"ok: {act.__name__}")
        opened = Page(browser, reports / "twenty" / "report.html", 1440)
        disagreeing(opened.page)
        opened.close()
        print("ok: disagreeing")
        opened = Page(browser, reports / "five" / "report.html", 1440)
        recommending_as_the_command(opened.page, json.loads((reports / "five" / "recommended.json").read_text()))
        opened.close()
        print("ok: recommending_as_the_command")
        for path in sorted(reports.glob("*/report.html")):
            for width in [375, 1440]:
                for scheme in ["light", "dark"]:
                    opened = Page(browser, path, width, scheme)
                    no_sideways_scroll(opened.page, width)
                    if width == 1440:
                        no_column_is_cut(opened.page)
                    contrast(opened.page)
                    if opened.page.locator(".chart").count():
                        no_names_overlap(opened.page)
                    if shots:
                        shots.mkdir(parents=True, exist_ok=True)
                        name = f"{path.parent.name}-{width}-{scheme}.png"
                        opened.page.screenshot(path=shots / name, full_page=True)
                    opened.close()
            print(f"ok: {path.parent.name} at 375 and 1440 pixels, light and dark")
        # Without its script the page still shows everything but what can be rearranged.
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(troubled.as_uri())
        assert page.locator(".chart svg").first.is_visible() and page.locator(".results tbody tr").count() > 5
        context.close()
        print("ok: without its script")
        browser.close()


if __name__ == "__main__":
    main()
