/* The report: controls, tables that sort, charts, and the rankings of a query side by side. Texts only ever as texts. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const MANY = 12; // lines that are drawn at first
const TOP = 10;
const style = (name) => look(Math.max(0, DATA.systems.indexOf(name)), DATA.palette);
const fixed = (value, digits = 4) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const signed = (value, digits = 4) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
const plural = (count, what) => `${count.toLocaleString("en")} ${what}`;

const state = { task: 0, measure: 0, a: null, b: null, cost: null, query: null, shown: new Set(), sort: {} };
const sections = [];
const task = () => DATA.tasks[state.task];
const measure = () => task().measures[state.measure];
const system = (name) => task().systems.find((one) => one.name === name);
const shown = () => task().systems.filter((one) => state.shown.has(one.name));

function begin() {
  const first = DATA.tasks[0];
  const best = [...first.systems].sort((a, b) => (b.mean[0] ?? -1) - (a.mean[0] ?? -1)).map((one) => one.name);
  const late = DATA.systems.filter((name) => !best.includes(name));
  state.shown = new Set([...(DATA.baseline ? [DATA.baseline] : []), ...best, ...late].slice(0, MANY));
  pair();
  document.getElementById("controls").append(controls());
  section("Results", results);
  section("Effectiveness against cost", costs, () => DATA.tasks.some((one) => one.costs.length));
  section("By query", queries);
  section("Recall by rank", recall);
  section("By length of the query", lengths, () => DATA.tasks.some((one) => one.lengths));
  section("Training", () => el("div", { class: "beside" }, DATA.training.map(curve)), () => DATA.training.length);
  section("Curves", () => el("div", { class: "beside" }, DATA.curves.map(curve)), () => DATA.curves.length);
  section("How the results were made", manifests, () => DATA.manifests.length);
  const index = el("nav", { "aria-label": "Sections" }, sections.map((one) => el("a", { href: `#${one.box.id}` }, one.name)));
  document.querySelector("header").append(index);
  draw();
  let width = window.innerWidth, waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => document.querySelectorAll("figure").forEach((one) => one.draw()), 120);
  });
  document.addEventListener("pointerover", (event) => highlight(event.target.closest("[data-series]")));
  document.addEventListener("focusin", (event) => highlight(event.target.closest("[data-series]")));
}

/* Systems to compare: those chosen where the task has them, else its best against the baseline or the first. */
function pair() {
  const names = task().systems.map((one) => one.name);
  const value = (name) => system(name).mean[state.measure] ?? -1;
  if (state.b === null || !(names.includes(state.b) || state.b === "")) state.b = names.includes(DATA.baseline) ? DATA.baseline : names[0];
  if (names.length === 1) state.b = "";
  if (!names.includes(state.a) || state.a === state.b)
    state.a = names.filter((name) => name !== state.b).sort((a, b) => value(b) - value(a))[0];
}

function section(name, fill, wanted = () => true) {
  if (!wanted()) return;
  const body = el("div"), id = name.toLowerCase().replace(/\W+/g, "-");
  const box = el("section", { id, "aria-labelledby": `${id}-head` }, el("h2", { id: `${id}-head` }, name), body);
  document.getElementById("report").append(box);
  sections.push({ name, box, draw: () => {
    body.replaceChildren(...[fill()].flat(Infinity).filter(Boolean));
    body.querySelectorAll("figure").forEach((one) => one.draw());
  } });
}

const draw = () => sections.forEach((one) => one.draw());
const redraw = (name) => sections.find((one) => one.name === name).draw();

function highlight(target) {
  const name = target && target.dataset.series;
  for (const canvas of document.querySelectorAll(".canvas")) {
    const lines = [...canvas.querySelectorAll("[data-series]")];
    const here = name && lines.some((one) => one.dataset.series === name);
    lines.forEach((one) => one.classList.toggle("dim", Boolean(here) && one.dataset.series !== name));
  }
}

function select(label, options, value, change) {
  const box = el("select", { "aria-label": label, onchange: () => change(box.value) },
    options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text)));
  return el("label", null, label, " ", box);
}

function controls() {
  const measures = () => select("measure", task().measures.map((m, n) => [n, m]), state.measure, (n) => {
    state.measure = Number(n);
    draw();
  });
  const box = el("span", null, measures());
  const tasks = DATA.tasks.length < 2 ? null : select("task", DATA.tasks.map((one, n) => [n, one.name]), 0, (n) => {
    const before = measure();
    state.task = Number(n);
    state.measure = Math.max(0, task().measures.indexOf(before));
    state.query = null;
    pair();
    box.replaceChildren(measures());
    draw();
  });
  const chips = DATA.systems.length < 2 ? null : el("div", { class: "chips", role: "group", "aria-label": "systems in the charts" },
    el("span", { class: "note" }, state.shown.size < DATA.systems.length ? `charts show ${MANY} of ${DATA.systems.length} systems, the best first: choose` : "in the charts"),
    DATA.systems.map((name) => {
      const chip = el("button", { type: "button", class: "chip", "data-series": name, "aria-pressed": String(state.shown.has(name)), onclick: () => {
        state.shown.has(name) ? state.shown.delete(name) : state.shown.add(name);
        chip.setAttribute("aria-pressed", String(state.shown.has(name)));
        ["Effectiveness against cost", "Recall by rank", "By length of the query"].forEach((one) => sections.some((s) => s.name === one) && redraw(one));
      } }, swatch(style(name)), name);
      return chip;
    }));
  return el("div", null, el("div", { class: "row" }, tasks, box), chips);
}

/* A table whose heads sort it: numbers from the highest, then from the lowest; what is missing comes last.
   columns: [{name, value(row), show(row), text, best}] */
function table(key, columns, rows, attributes = () => ({})) {
  const body = el("tbody"), heads = [];
  const best = columns.map((c) => (c.best ? Math.max(...rows.map((r) => Number(fixed(c.value(r) ?? -Infinity)))) : null));
  const fill = () => {
    const { column, down } = state.sort[key] || {};
    const order = [...rows];
    if (column !== undefined && columns[column]) {
      const { value, text } = columns[column], missing = (v) => v === null || v === undefined;
      order.sort((r, s) => {
        const a = value(r), b = value(s);
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return (down ? -1 : 1) * (text ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      });
    }
    heads.forEach((head, n) => head.setAttribute("aria-sort", n === column ? (down ? "descending" : "ascending") : "none"));
    body.replaceChildren(...order.map((row) => el("tr", attributes(row), columns.map((c, n) => {
      const value = c.value(row);
      const top = c.best && rows.length > 1 && value !== null && value !== undefined && Number(fixed(value)) === best[n];
      return el(n ? "td" : "th", { scope: n ? null : "row", class: top ? "best" : c.text ? "words" : null, "data-value": value ?? null,
        title: c.best && typeof value === "number" ? String(value) : null }, c.show(row));
    }))));
  };
  columns.forEach((c, n) => heads.push(el("th", { scope: "col", class: c.text ? "words" : null }, el("button", { type: "button", onclick: () => {
    const before = state.sort[key];
    state.sort[key] = { column: n, down: before && before.column === n ? !before.down : !c.text };
    fill();
  } }, c.name))));
  fill();
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `table of ${key}` },
    el("table", { class: "sortable", id: `table-${key}` }, el("thead", null, el("tr", null, heads)), body));
}

const named = (name, note) => [swatch(style(name)), name, note ? el("span", { class: "tag" }, note) : null];
const pValue = (p) => (p < 0.0001 ? "p\u00a0<\u00a00.0001" : `p\u00a0=\u00a0${Number(p.toPrecision(2))}`);

/* A count, or a share where any system's is one. */
function count(value, all) {
  if (value === null || value === undefined) return "–";
  return all.every((one) => one === undefined || Number.isInteger(one)) ? value.toLocaleString("en") : `${(100 * value).toFixed(1)}%`;
}

function results() {
  const here = task(), wanted = (name) => (name === DATA.baseline ? "baseline" : null);
  const deep = new Set(here.systems.map((one) => one.depth));
  const columns = [
    { name: "system", value: (r) => r.name, show: (r) => named(r.name, wanted(r.name)), text: true },
    ...here.measures.map((m, n) => ({ name: m, value: (r) => r.mean[n], show: (r) => [fixed(r.mean[n]), stars(r.name, n)], best: true })),
    ...here.counts.map((c) => ({ name: c, value: (r) => r.counts[c], show: (r) => count(r.counts[c], here.systems.map((one) => one.counts[c])) })),
    ...here.costs.map((c) => ({ name: c, value: (r) => r.cost[c], show: (r) => (r.cost[c] === undefined ? "–" : short(r.cost[c])) })),
    ...(deep.size > 1 ? [{ name: "depth", value: (r) => r.depth, show: (r) => String(r.depth) }] : []),
  ];
  const notes = [];
  if (here.tests.of) notes.push(`* p < 0.05, ** p < 0.01 against ${DATA.baseline}: paired t-test over queries, two-sided, ${here.tests.family}.`);
  return [
    DATA.tasks.length > 1 ? [el("h3", null, `${measure()}, all tasks`), across()] : null,
    el("h3", null, `${here.name}: ${plural(here.queries.length, here.queries.length === 1 ? "query" : "queries")}`),
    table("task", columns, here.systems, (r) => ({ "data-system": r.name })),
    notes.map((one) => el("p", { class: "note" }, one)),
    here.cautions.map((one) => el("p", { class: "caution" }, el("strong", null, "Caution: "), one)),
  ];
}

function stars(name, n) {
  const p = task().tests.of?.[name]?.[task().measures[n]]?.p;
  return p !== null && p !== undefined && p < 0.05 ? el("sup", { title: pValue(p) }, p < 0.01 ? "**" : "*") : null;
}

/* One measure over all tasks; an average is left empty where a system lacks one of its tasks; a part that is an
   average itself counts as one task. */
function across() {
  const m = measure();
  const value = (name, one) => {
    if (!one) return null;
    const n = one.measures.indexOf(m), found = one.systems.find((s) => s.name === name);
    return n < 0 || !found ? null : found.mean[n];
  };
  const part = (name, t) => t in DATA.averages ? average(name, DATA.averages[t]) : value(name, DATA.tasks.find((one) => one.name === t));
  const average = (name, parts) => {
    const all = parts.map((t) => part(name, t));
    return all.some((v) => v === null) ? null : all.reduce((a, b) => a + b, 0) / all.length;
  };
  const column = (name, of) => ({ name, value: of, show: (r) => fixed(of(r)), best: true });
  return table("tasks", [
    { name: "system", value: (r) => r, show: (r) => named(r, r === DATA.baseline ? "baseline" : null), text: true },
    ...Object.entries(DATA.averages).map(([name, parts]) => column(name, (r) => average(r, parts))),
    ...DATA.tasks.map((one) => column(one.name, (r) => value(r, one))),
  ], DATA.systems, (r) => ({ "data-system": r }));
}

function costs() {
  const here = task();
  if (!here.costs.length) return el("p", { class: "note" }, `No cost is known of the systems on ${here.name}.`);
  if (!here.costs.includes(state.cost)) state.cost = here.costs[0];
  const points = shown().map((one) => ({ name: one.name, style: style(one.name), x: one.cost[state.cost] ?? null, y: one.mean[state.measure] }));
  return [
    el("div", { class: "row" }, select("cost", here.costs.map((c) => [c, c]), state.cost, (c) => { state.cost = c; redraw("Effectiveness against cost"); })),
    scatterChart({ points, x: state.cost, y: measure() }),
    el("p", { class: "note" }, "The grey line joins the systems that no cheaper one matches."),
  ];
}

const lines = (points) => shown().map((one) => ({ name: one.name, style: style(one.name), points: points(task().systems.indexOf(one)) }));

function recall() {
  const { measure: name, series } = task().recall;
  return lineChart({ series: lines((n) => series[n]), x: "rank", y: `${name}@rank`, log: true, from0: true });
}

function lengths() {
  const here = task().lengths;
  if (!here) return el("p", { class: "note" }, `The texts of the queries of ${task().name} were not given.`);
  const labels = here.labels.map((label, n) => `${label}\n(${here.sizes[n].toLocaleString("en")})`);
  return lineChart({ series: lines((s) => here.means[state.measure][s].map((v, n) => [n, v]).filter((p) => p[1] !== null)),
    x: "words in the query (queries)", y: measure(), categories: labels });
}

function curve(one) {
  const names = Object.keys(one.series);
  const own = (name, n) => look(DATA.systems.includes(name) ? DATA.systems.indexOf(name) : n, DATA.palette);
  return el("div", null, one.name === one.y ? null : el("h3", null, one.name), lineChart({ series: names.map((name, n) => ({ name, style: own(name, n), points: one.series[name] })), x: one.x, y: one.y, log: one.log }));
}

function manifests() {
  return [table("manifests", [
    { name: "result", value: (r) => r.name, show: (r) => r.name, text: true },
    ...["verb", "status", "started"].map((key) => ({ name: key, value: (r) => r[key], show: (r) => r[key] || "–", text: true })),
    { name: "seconds", value: (r) => r.seconds, show: (r) => fixed(r.seconds, 1) },
    ...["commit", "hardware", "seeds"].map((key) => ({ name: key, value: (r) => r[key], show: (r) => r[key] || "–", text: true })),
  ], DATA.manifests), DATA.manifests.map((one) => el("details", null, el("summary", null, `${one.name}: recipe and packages`),
    el("pre", null, one.recipe), el("p", { class: "note" }, Object.entries(one.packages).map(([name, version]) => `${name} ${version}`).join(", "))))];
}
