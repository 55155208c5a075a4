"use strict";
// Sorting, filtering, the plot with axes to choose, and the example view. Reads the page's own JSON only.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector, within = document) => within.querySelector(selector);
const comparison = id => data.comparisons.find(c => c.id === id);
const html = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const svg = (name, attributes = {}, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
all(".interactive").forEach(element => { element.hidden = false; });

// A link to a record or a method opens what it is folded into.
const unfold = () => {
  let target = null;
  try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { /* not an id */ }
  if (!target) return;
  for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
// On paper nothing can be unfolded; whole records would be too much.
addEventListener("beforeprint", () => all("details:not(.record)").forEach(d => { d.open = true; }));

// Tables: a click on a heading sorts; absent values stay last.
for (const table of all("table.sortable")) {
  const headings = all("thead th", table);
  headings.forEach((heading, column) => one("button", heading).addEventListener("click", () => {
    const key = row => {
      const cell = row.cells[column], text = cell.dataset.key ?? (table.closest(".results") ? "" : cell.textContent.trim());
      if (text === "") return null;
      const number = Number.parseFloat(text);
      return /^-?[\d.]/.test(text) && !Number.isNaN(number) ? number : text;
    };
    const was = heading.getAttribute("aria-sort");
    // Numbers of merit start with the best or largest, names with a.
    const first = heading.classList.contains("number") && column === 3 ? "descending" : "ascending";
    const order = was === null ? first : was === "ascending" ? "descending" : "ascending";
    headings.forEach(h => h.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0], rows = [...body.rows].map(row => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    });
    body.append(...rows.map(([, row]) => row));
  }));
}

// Filters of the result table.
for (const section of all(".results")) {
  const text = one(".filter", section), standing = one(".standing", section), count = one(".count", section);
  const rows = all("tbody tr", section);
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const of = { "": true, ranked: row.dataset.standing === "ranked", lead: row.classList.contains("lead"), trouble: row.dataset.standing !== "ranked" };
      const label = row.dataset.label.toLowerCase();
      row.hidden = !(of[standing.value] && words.every(word => label.includes(word)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} methods`;
  };
  text.addEventListener("input", apply);
  standing.addEventListener("change", apply);
  // At first what fits a screen.
  const columns = one(".all-columns", section), table = one("table", section);
  const show = () => table.classList.toggle("few", !columns.checked);
  columns.addEventListener("change", show);
  show();
  apply();
}

// From values to positions. Zero has a place of its own on a logarithmic axis.
function axisOf(quantity, values, [from, to], count) {
  const axis = { ticks: [], minor: [], cut: null };
  let low, high, zero = null;
  const place = v => from + (v - low) / (high - low) * (to - from);
  if (quantity.log) {
    const logs = values.filter(v => v > 0).map(Math.log10);
    const [first, last] = logs.length ? [Math.min(...logs), Math.max(...logs)] : [0, 0];
    low = Math.max(first - 0.3, Math.floor(first));
    high = Math.min(last + 0.3, Math.max(Math.ceil(last), Math.floor(first) + 1));
    if (high - low < 1) { low = Math.floor(first); high = Math.max(Math.ceil(last), low + 1); }
    const start = low, end = high;
    if (values.some(v => v <= 0)) { zero = low - 0.9; low = zero - 0.35; }
    axis.at = v => place(v > 0 ? Math.log10(v) : zero ?? low);
    if (zero !== null) { axis.ticks.push([0, "0"]); axis.cut = place(zero + 0.45); }
    for (let e = Math.floor(start); logs.length && e <= Math.ceil(end); e++) {
      const short = e >= 6 ? `${10 ** (e - 6)} M` : e >= 3 ? `${10 ** (e - 3)} k` : `${10 ** e}`;
      for (let i = 1; i < 10; i++) {
        const v = i * 10 ** e;
        if (Math.log10(v) < start - 1e-9 || Math.log10(v) > end + 1e-9) continue;
        if (i === 1) axis.ticks.push([v, short]); else axis.minor.push(v);
      }
    }
  } else {
    low = Math.min(...values); high = Math.max(...values);
    const span = high > low ? high - low : Math.max(Math.abs(low), 1) * 0.02, middle = (high + low) / 2;
    low = middle - span * 0.58; high = middle + span * 0.58;
    if (low < 0 && Math.min(...values) >= 0) low = 0;
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * (1 - 1e-9));
    const digits = Math.max(0, -Math.floor(Math.log10(step))) + (/^2\.5/.test((step / power).toFixed(1)) && power <= 1 ? 1 : 0);
    axis.at = place;
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++)
      axis.ticks.push([i * step, (i * step).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })]);
  }
  return axis;
}

const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
const directions = [[1, 0], [.85, -.6], [.85, .6], [-1, 0], [0, -1], [0, 1], [-.85, -.6], [-.85, .6], [.5, -.9], [.5, .9], [-.5, -.9], [-.5, .9]];

// A place for each name: near its point, on nothing else.
function placeNames(points, solid, soft, bounds) {
  const placed = [];
  for (const p of points) {
    let best = null;
    [11, 18, 28, 42, 60, 84, 110].forEach((distance, ring) => directions.forEach(([dx, dy], rank) => {
      const x = p.x + dx * distance, y = p.y + dy * distance;
      const left = dx > .3 ? x : dx < -.3 ? x - p.width : x - p.width / 2;
      const top = dy > .8 ? y : dy < -.8 ? y - 15 : y - 7.5;
      const box = [left, top, left + p.width, top + 15], grown = [left - 2, top - 1, left + p.width + 2, top + 16];
      const outside = box[0] < bounds[0] || box[1] < bounds[1] || box[2] > bounds[2] || box[3] > bounds[3];
      // A name that another point is nearer to would be read as that point's.
      const to = q => Math.hypot(Math.max(box[0] - q.x, 0, q.x - box[2]), Math.max(box[1] - q.y, 0, q.y - box[3]));
      const own = to(p), stolen = points.filter(q => q !== p && (q.x !== p.x || q.y !== p.y) && to(q) < own + 3).length;
      const hits = boxes => boxes.filter(b => overlap(b, grown)).length;
      const cost = 1e6 * outside + 1e4 * hits(placed) + 1e3 * hits(solid) + 40 * stolen + 6 * hits(soft) + 10 * ring + rank;
      if (!best || cost < best.cost) best = { cost, box };
    }));
    placed.push(best.box);
  }
  return placed;
}

// The plot with axes to choose.
for (const section of all(".trade-off")) {
  const figure = one(".chart", section), c = comparison(figure.dataset.comparison);
  const selectX = one(".axis-x", section), selectY = one(".axis-y", section), drawn = one(".drawn", section);
  const measure = document.createElement("canvas").getContext("2d");
  const family = getComputedStyle(document.body).fontFamily;
  const widthOf = (text, bold, size = 13) => { measure.font = `${bold ? 700 : 400} ${size}px ${family}`; return measure.measureText(text).width; };
  one(".fixed", figure).hidden = true;

  const draw = () => {
    const qx = c.quantities.find(q => q.key === selectX.value), qy = c.quantities.find(q => q.key === selectY.value);
    // As in the other plots: what lies far below would squeeze all others together.
    const scale = [qx, qy].some(q => q.key === "metric") ? c.limit : -Infinity;
    const below = c.points.filter(p => p.values.metric && p.values.metric.mean < scale);
    const measured = c.points.filter(p => p.values[qx.key] && p.values[qy.key]);
    const points = measured.filter(p => !below.includes(p));
    const absent = c.points.filter(p => !measured.includes(p)).map(p => p.label);
    const width = Math.max(280, Math.min(figure.clientWidth, 960)), narrow = width < 520, height = narrow ? 360 : 460;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${qy.title} against ${qx.title}` });
    drawn.replaceChildren(root);
    one(".absent", figure).textContent = [
      absent.length ? `Not measured: ${absent.join(", ")}.` : "",
      below.length ? `Below the scale: ${below.map(p => `${p.label} (${p.values.metric.text})`).join(", ")}.` : ""].join(" ");
    const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);
    if (!points.length) { root.append(text(8, 24, "No method has both.")); return; }

    const ends = (p, q) => { const v = p.values[q.key]; return v.sd === null ? [v.mean] : [v.mean - v.sd, v.mean + v.sd]; };
    const values = q => points.flatMap(p => q.log ? [p.values[q.key].mean] : ends(p, q));
    const top = 34, bottom = height - 50;
    const y = axisOf(qy, values(qy), [bottom, top], narrow ? 4 : 6);
    const left = 10 + Math.max(...y.ticks.map(([, t]) => widthOf(t, false, 12))), right = width - 12;
    const x = axisOf(qx, values(qx), [left + 8, right - 6], narrow ? 3 : 6);
    one(".broken", figure).hidden = x.cut === null && y.cut === null;

    for (const [v, label] of y.ticks) {
      root.append(svg("line", { class: "grid", x1: left, x2: right, y1: y.at(v), y2: y.at(v) }));
      root.append(text(left - 7, y.at(v) + 4, label, { class: "tick", "text-anchor": "end" }));
    }
    let free = -1e9;
    for (const [v, label] of x.ticks) {
      const half = widthOf(label, false, 12) / 2;
      root.append(svg("line", { class: "axis", x1: x.at(v), x2: x.at(v), y1: bottom, y2: bottom + 5 }));
      if (x.at(v) - half < free) continue;
      free = x.at(v) + half + 8;
      root.append(text(Math.min(x.at(v), width - half), bottom + 19, label, { class: "tick", "text-anchor": "middle" }));
    }
    for (const v of x.minor) root.append(svg("line", { class: "axis", x1: x.at(v), x2: x.at(v), y1: bottom, y2: bottom + 3 }));
    root.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    const cut = d => root.append(svg("path", { class: "axis", d }));
    if (x.cut !== null) for (const d of [-3, 3]) cut(`M${x.cut + d - 2.5} ${bottom + 6}l5 -12`);
    if (y.cut !== null) for (const d of [-3, 3]) cut(`M${left - 6} ${y.cut + d + 2.5}l12 -5`);
    root.append(text(0, 14, qy.title));
    const title = qx.title;
    root.append(text(Math.min((left + right) / 2, width - widthOf(title) / 2), height - 8, title, { "text-anchor": "middle" }));

    // No other point is at least as good in both and better in one.
    const good = p => [qx, qy].map(q => (q.higher ? 1 : -1) * p.values[q.key].mean);
    const beaten = p => points.some(o => { const [a, b] = [good(o), good(p)]; return a[0] >= b[0] && a[1] >= b[1] && (a[0] > b[0] || a[1] > b[1]); });
    const marks = points.map(p => ({ p, x: x.at(p.values[qx.key].mean), y: y.at(p.values[qy.key].mean), best: !beaten(p) }));
    const front = marks.filter(m => m.best).sort((a, b) => a.x - b.x || a.y - b.y), soft = [];
    if (front.length > 1 && qx !== qy) {
      let path = `M${front[0].x} ${front[0].y}`;
      for (let i = 1; i < front.length; i++) {
        const [a, b] = [front[i - 1], front[i]];
        // What one can have: the corner is on the side that is worse in both.
        const corner = qx.higher ? [a.x, b.y] : [b.x, a.y];
        path += `L${corner[0]} ${corner[1]}L${b.x} ${b.y}`;
        for (const [f, t] of [[[a.x, a.y], corner], [corner, [b.x, b.y]]])
          soft.push([Math.min(f[0], t[0]), Math.min(f[1], t[1]), Math.max(f[0], t[0]), Math.max(f[1], t[1])]);
      }
      root.append(svg("path", { class: "front", d: path }));
    }
    const solid = [];
    for (const m of marks) {
      const color = `stroke:var(--${m.p.ink})`;
      const bar = (x1, y1, x2, y2) => root.append(svg("line", { x1, y1, x2, y2, style: color, "stroke-width": 1.6 }));
      if (m.p.values[qy.key].sd !== null && !qy.log) {
        const [low, high] = ends(m.p, qy).map(y.at);
        bar(m.x, low, m.x, high); bar(m.x - 4, low, m.x + 4, low); bar(m.x - 4, high, m.x + 4, high);
        solid.push([m.x - 5, high - 2, m.x + 5, low + 2]);
      }
      if (m.p.values[qx.key].sd !== null && !qx.log) {
        const [low, high] = ends(m.p, qx).map(x.at);
        bar(low, m.y, high, m.y); bar(low, m.y - 4, low, m.y + 4); bar(high, m.y - 4, high, m.y + 4);
        solid.push([low - 2, m.y - 5, high + 2, m.y + 5]);
      }
      solid.push([m.x - 9, m.y - 9, m.x + 9, m.y + 9]);
    }
    const longest = narrow ? 150 : 260;
    for (const m of marks) {
      m.name = m.p.label;
      while (widthOf(m.name, m.best) > longest) m.name = m.name.replace(/.…?$/u, "…");
      m.width = widthOf(m.name, m.best) + 2;
    }
    const boxes = placeNames(marks, solid, soft, [left + 2, 20, width - 2, bottom - 3]);
    marks.forEach((m, i) => {
      const [l, t, r, b] = boxes[i];
      const near = [Math.min(Math.max(m.x, l), r), Math.min(Math.max(m.y, t), b)];
      const far = Math.hypot(near[0] - m.x, near[1] - m.y);
      if (far > 15) root.append(svg("line", { class: "lead-line", x1: m.x + (near[0] - m.x) / far * 9, y1: m.y + (near[1] - m.y) / far * 9, x2: near[0], y2: near[1] }));
    });
    // Links in the order of the ranking, so that the tab key walks from the best to the worst.
    marks.forEach((m, i) => {
      const [bl, bt, br, bb] = boxes[i];
      root.append(svg("rect", { class: "behind", x: bl, y: bt, width: br - bl, height: bb - bt }));
    });
    marks.forEach((m, i) => {
      const outline = radius => m.p.outline.map(([px, py]) => `${(m.x + radius * px).toFixed(1)},${(m.y + radius * py).toFixed(1)}`).join(" ");
      const [l, t, , b] = boxes[i];
      const said = `${m.p.label}: ${m.p.values[qy.key].text}, ${m.p.values[qx.key].text}`;
      root.append(svg("a", { href: `#${m.p.row}`, "aria-label": said },
        svg("title", {}, said),
        svg("polygon", { class: "rim", points: outline(7.5) }),
        svg("polygon", { points: outline(6), style: `fill:var(--${m.p.ink})` }),
        text(l, (t + b) / 2 + 4.5, m.name, m.best ? { class: "best" } : {})));
    });
  };
  selectX.addEventListener("change", draw);
  selectY.addEventListener("change", draw);
  let last = 0;
  new ResizeObserver(() => { if (figure.clientWidth !== last) { last = figure.clientWidth; draw(); } }).observe(figure);
  addEventListener("beforeprint", draw);
}

// Which one for me: the method with the fewest parameters among those within the limits that are shown to be less than
// the margin behind the best of them, as the `recommend` command has it: not worse than each of the others, after Holm.
for (const section of all(".recommend")) {
  const c = comparison(section.dataset.comparison), answer = one(".verdict", section), table = one("table", section);
  const inputs = all("input", section);
  const measured = (p, key) => key === "overhead" ? p.overhead : p.values[key];
  const shownNearBest = among => {
    const raw = among.map(a => Math.max(0, ...among.filter(b => b !== a).map(b => c.worse[a.i][b.i] ?? 1)));
    const order = raw.map((_, k) => k).sort((x, y) => raw[x] - raw[y]);
    let largest = 0;
    return order.filter((k, rank) => (largest = Math.max(largest, Math.min(1, (raw.length - rank) * raw[k]))) < 0.05).map(k => among[k]);
  };
  // What would show one of them: that whose open pairs want the fewest seeds.
  const missing = among => {
    const open = among.map(a => ({ a, others: among.filter(b => b !== a && (c.worse[a.i][b.i] ?? 1) >= 0.05 / among.length) })).filter(o => o.others.length);
    if (open.some(o => o.others.some(b => c.worse[o.a.i][b.i] === null))) return "Some pairs are compared on fewer than 3 seeds: run more seeds.";
    const seeds = o => Math.max(...o.others.map(b => c.wants[o.a.i][b.i]?.seeds ?? Infinity));
    const nearest = open.filter(o => seeds(o) < Infinity).sort((x, y) => seeds(x) - seeds(y))[0];
    if (!nearest) return "No number of seeds is expected to show it: judge on more examples.";
    return `Nearest to it is ${nearest.a.p.label}: ${nearest.others.map(b => `against ${b.p.label} it ${c.wants[nearest.a.i][b.i].text}`).join("; ")}.`;
  };
  const draw = () => {
    const limits = inputs.filter(i => i.value !== "" && Number.isFinite(i.valueAsNumber)).map(i => ({ key: i.name, limit: i.valueAsNumber * Number(i.dataset.factor ?? 1), least: i.dataset.least !== undefined }));
    const judge = p => limits.map(({ key, limit, least }) => {
      const value = measured(p, key);
      if (!value) return "unknown";
      const keeps = v => least ? v >= limit : v <= limit;
      const ends = (value.interval ?? [value.mean, value.mean]).map(keeps);
      return ends[0] && ends[1] ? "yes" : ends[0] || ends[1] ? "unsure" : "no";
    });
    const judged = c.points.map((p, i) => ({ p, i, verdicts: judge(p) }));
    const fitting = judged.filter(j => j.p.eligible && !j.verdicts.includes("no"));
    const shown = shownNearBest(fitting);
    const parameters = j => j.p.values.parameters?.mean ?? Infinity;
    const chosen = shown.reduce((a, b) => a && (parameters(a) < parameters(b) || (parameters(a) === parameters(b) && a.i < b.i)) ? a : b, null);
    const lines = [];
    if (!fitting.length) lines.push("No method keeps all of these limits.");
    else if (!chosen) lines.push(c.none, missing(fitting));
    else {
      const p = chosen.p;
      lines.push(`${p.label}: ${p.values.metric.text}${p.values.parameters ? `, ${p.values.parameters.text} trained parameters` : ""}.`);
      const others = shown.filter(j => j !== chosen).map(j => j.p.label);
      if (fitting.length > 1) lines.push(`The cheapest method shown to be less than ${c.margin} behind the best within the limits.${others.length ? ` So are, with as many parameters or more: ${others.join(", ")}.` : ""}`);
      if (chosen.verdicts.some(v => v === "unsure")) lines.push("Whether it keeps every limit is within the noise of these seeds.");
      if (chosen.verdicts.some(v => v === "unknown")) lines.push("One of the limits was not measured for it.");
    }
    answer.replaceChildren(...lines.map(line => html("p", {}, line)));
    const words = { yes: "fits", unsure: "within the noise", unknown: "not measured", no: "does not fit" };
    const worst = v => ["no", "unknown", "unsure"].find(w => v.includes(w)) ?? "yes";
    table.tBodies[0].replaceChildren(...judged.map(j => html("tr", j === chosen ? { class: "chosen" } : {},
      html("th", { scope: "row" }, html("a", { href: `#${j.p.row}` }, j.p.label)),
      html("td", { class: "number" }, j.p.values.metric.text),
      html("td", { class: worst(j.verdicts) === "no" ? "fail" : "" }, words[worst(j.verdicts)] + (j === chosen ? " – recommended" : "")))));
  };
  inputs.forEach(input => input.addEventListener("input", draw));
  draw();
}

// Example by example.
for (const section of all(".examples")) {
  const c = comparison(section.dataset.comparison), { labels, truth, seeds, runs } = c.examples;
  const seed = one(".seed", section), kind = one(".kind", section), method = one(".method", section);
  const which = one(".which", section), count = one(".count", section), table = one(".predictions", section);
  const [previous, next] = [one(".previous", section), one(".next", section)], position = one(".page", section);
  const pageSize = 20;
  let page = 0;
  // A predicted label is written with digits to base 36, as many as the last label needs.
  const digits = Math.max(0, labels.length - 1).toString(36).length;
  const read = text => truth.map((_, i) => parseInt(text.slice(i * digits, (i + 1) * digits), 36));
  seeds.forEach(s => seed.append(html("option", { value: s }, `${s}`)));
  c.points.forEach((p, i) => method.append(html("option", { value: i }, p.label)));
  const draw = () => {
    const shown = runs.filter(r => r.seed === Number(seed.value)).map(r => ({ ...r, predicted: read(r.predicted) }));
    const own = shown.find(r => r.row === Number(method.value));
    const trained = shown.filter(r => !c.points[r.row].floor);
    const others = trained.filter(r => r !== own);
    which.hidden = !/right|only_wrong|^wrong/.test(kind.value);
    const right = (r, i) => r.predicted[i] === truth[i];
    const tests = {
      all: () => true,
      // What learns nothing from the texts disagrees with everything.
      disagree: i => trained.some(r => r.predicted[i] !== trained[0].predicted[i]),
      all_wrong: i => trained.length && trained.every(r => !right(r, i)),
      right: i => own && right(own, i),
      wrong: i => own && !right(own, i),
      only_right: i => own && right(own, i) && others.length && others.every(r => !right(r, i)),
      only_wrong: i => own && !right(own, i) && others.length && others.every(r => right(r, i)),
    };
    const found = truth.map((_, i) => i).filter(tests[kind.value]);
    const pages = Math.max(1, Math.ceil(found.length / pageSize));
    page = Math.min(Math.max(page, 0), pages - 1);
    count.textContent = own || which.hidden
      ? `${found.length} of ${truth.length} examples (${(100 * found.length / truth.length).toFixed(1)} %)`
      : "this method has no run with this seed";
    const head = html("tr", {}, html("th", { scope: "col", class: "number" }, "example"), html("th", { scope: "col" }, "label"),
      ...shown.map(r => html("th", { scope: "col" }, c.points[r.row].label)));
    const body = html("tbody");
    for (const i of found.slice(page * pageSize, (page + 1) * pageSize)) {
      body.append(html("tr", {}, html("th", { scope: "row", class: "number" }, `${i}`), html("td", {}, labels[truth[i]] ?? `${truth[i]}`),
        ...shown.map(r => right(r, i)
          ? html("td", {}, labels[r.predicted[i]] ?? `${r.predicted[i]}`)
          : html("td", { class: "wrong" }, `✗ ${labels[r.predicted[i]] ?? r.predicted[i]}`))));
    }
    table.replaceChildren(html("thead", {}, head), body);
    position.textContent = `page ${page + 1} of ${pages}`;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
  };
  const restart = () => { page = 0; draw(); };
  [seed, kind, method].forEach(select => select.addEventListener("change", restart));
  previous.addEventListener("click", () => { page--; draw(); });
  next.addEventListener("click", () => { page++; draw(); });
  draw();
}
})();
