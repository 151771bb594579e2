/* By query: differences of two systems as bars, and the rankings of the query that was chosen. */

const EXTREMES = 5; // queries listed at either end
let wholeTexts = false;

/* The value of each query, null where it has none. */
const values = (name) => (name ? system(name).values[state.measure].map((v) => (v === null ? null : v / DATA.unit)) : task().queries.map(() => 0));

function queries() {
  const here = task();
  if (state.measure >= here.perQuery)
    return el("p", { class: "note" }, `Per-query values of ${measure()} are not on this page, which is kept under 20 MB; those of ${here.measures.slice(0, here.perQuery).join(", ") || "no measure"} are.`);
  const a = values(state.a), b = values(state.b);
  const known = here.queries.map((_, n) => n).filter((n) => a[n] !== null && b[n] !== null);
  if (!known.length) return el("p", { class: "note" }, `No query has a value of ${measure()} for both systems.`);
  const bars = known.map((n) => ({ query: n, value: a[n] - b[n], a: a[n], b: b[n] }));
  if (!known.includes(state.query)) state.query = null;
  bars.sort((p, q) => q.value - p.value || p.query - q.query);
  const panel = el("div", { id: "query" });
  const open = (query, keyboard) => {
    state.query = query;
    panel.replaceChildren(opened(bars, open));
    if (keyboard) panel.querySelector("h3").focus();
    else panel.scrollIntoView({ block: "nearest" });
  };
  const names = here.systems.map((one) => [one.name, one.name]);
  const choose = (key) => (name) => { state[key] = name; redraw("By query"); };
  const chart = barChart({ bars, y: state.b ? `${measure()}: ${state.a} − ${state.b}` : measure(), chosen: state.query, onchoose: open, describe });
  if (state.query !== null) panel.append(opened(bars, open));
  return [
    el("div", { class: "row" }, select("compare", names, state.a, choose("a")), select("with", [...names, ["", "nothing"]], state.b, choose("b"))),
    summary(bars),
    known.length < here.queries.length ? el("p", { class: "note" }, `${plural(here.queries.length - known.length, here.queries.length - known.length === 1 ? "query" : "queries")} without a value left out.`) : null,
    chart,
    el("p", { class: "note" }, `Click a bar, or reach the chart by Tab, move with the arrow keys and press Enter: the query, and ${state.b ? "both rankings" : "its ranking"}. ${kept()}`),
    panel,
    el("div", { class: "extremes" }, extremes(state.b ? "Gained most" : "Best", bars.filter((x) => x.value > 0).slice(0, EXTREMES), open),
      extremes(state.b ? "Lost most" : "Worst", (state.b ? bars.filter((x) => x.value < 0) : bars).slice(-EXTREMES).reverse(), open)),
  ];
}

function kept() {
  const there = task().embedded.queries.length, all = task().queries.length;
  return there < all
    ? `The page holds rankings and texts of ${there.toLocaleString("en")} of ${plural(all, "queries")}, those that changed most by ${task().measures[0]}, and values of all.`
    : "";
}

const embedded = (query) => task().embedded.queries.find((one) => one.place === query);
const wording = (query) => embedded(query)?.text || "";

function describe(bar) {
  const text = wording(bar.query), both = state.b ? ` (${state.b} ${fixed(bar.b)}, ${state.a} ${fixed(bar.a)})` : "";
  return `${task().queries[bar.query]}${text ? `: ${text.length > 90 ? `${text.slice(0, 90)} …` : text}` : ""} ${state.b ? signed(bar.value) : fixed(bar.a)}${both}`;
}

function summary(bars) {
  if (!state.b) return null;
  const here = task(), rounded = [bars.filter((x) => x.value > 0), bars.filter((x) => x.value === 0), bars.filter((x) => x.value < 0)];
  const [a, b] = [state.a, state.b].map((name) => system(name).mean[state.measure]);
  const test = state.b === DATA.baseline ? here.tests.of?.[state.a]?.[measure()] : null;
  const tested = !test ? "" : test.p === null ? `; no test: ${test.untested}` : `; 95% interval ${signed(test.interval[0])} to ${signed(test.interval[1])}, ${pValue(test.p)} (paired\u00a0t-test, ${here.tests.family})`;
  const [wins, ties, losses] = test ? test.record : rounded.map((one) => one.length);
  return el("p", null, el("b", null, `${signed(a - b)} on average`), ` (${fixed(a)} − ${fixed(b)}): better on ${wins}, the same${test ? "" : " to four digits"} on ${ties}, worse on ${losses} of ${plural(bars.length, "queries")}${tested}.`);
}

function extremes(name, bars, open) {
  if (!bars.length) return null;
  return el("div", null, el("h4", null, name), el("ul", null, bars.map((bar) => el("li", null,
    el("button", { type: "button", class: "link", onclick: () => open(bar.query, true) },
      el("span", { class: bar.value < 0 ? "number lost" : "number" }, state.b ? signed(bar.value, 3) : fixed(bar.a, 3)),
      el("span", null, wording(bar.query) || task().queries[bar.query]))))));
}

/* The query that was chosen: its text, what every system scores on it, both rankings, and what these leave out. */
function opened(bars, open) {
  const here = task(), at = bars.findIndex((bar) => bar.query === state.query), bar = bars[at];
  const record = embedded(state.query);
  const step = (by, label) => el("button", { type: "button", disabled: !bars[at + by], onclick: () => open(bars[at + by].query, true) }, label);
  const scores = here.systems.map((one) => [one.name, one.values[state.measure][state.query]]).sort((x, y) => y[1] - x[1]);
  const pair = [state.b, state.a].filter(Boolean);
  const whole = el("button", { type: "button", class: "whole", "aria-pressed": String(wholeTexts), onclick: () => {
    wholeTexts = !wholeTexts;
    whole.setAttribute("aria-pressed", String(wholeTexts));
    box.classList.toggle("clamped", !wholeTexts);
  } }, "whole texts");
  const box = el("article", { class: wholeTexts ? "opened" : "opened clamped" },
    el("div", { class: "row between" }, el("span", { class: "note" }, `query ${here.queries[state.query]}, ${at + 1} of ${bars.length.toLocaleString("en")}${state.b ? `, ${signed(bar.value)}` : ""}`),
      el("span", null, record && whole, " ", step(-1, "‹ previous"), " ", step(1, "next ›"))),
    el("h3", { tabindex: -1, class: "query-text" }, record?.text || here.queries[state.query]),
    el("ul", { class: "scores", "aria-label": `${measure()} of every system` }, scores.map(([name, value]) =>
      el("li", { class: pair.includes(name) ? "one" : null }, swatch(style(name)), name, " ", el("b", null, value === null ? "–" : fixed(value / DATA.unit))))),
    record
      ? [el("div", { class: pair.length > 1 ? "rankings" : "rankings alone" }, pair.map((name) => ranking(record, name, pair.find((other) => other !== name)))), outside(record, pair)]
      : el("p", { class: "note" }, `The rankings of this query are not on the page. ${kept()}`));
  return box;
}

const ranks = (record, name) => record.ranks[task().systems.findIndex((one) => one.name === name)];

function ranking(record, name, other) {
  const own = ranks(record, name), others = other ? ranks(record, other) : null;
  const places = own.map((_, n) => n).filter((n) => own[n] >= 1 && own[n] <= TOP).sort((x, y) => own[x] - own[y]);
  const bar = system(name).values[state.measure][state.query];
  return el("div", { class: "ranking", "data-ranking": name }, el("h4", null, swatch(style(name)), name, ` · ${measure()} ${bar === null ? "–" : fixed(bar / DATA.unit)}`),
    places.length ? el("ol", null, places.map((n) => el("li", { value: own[n] }, documentOf(record, n, others ? [[other, others[n]]] : []))))
      : el("p", { class: "note" }, "No results."));
}

/* Relevant documents that neither ranking has among its first ten. */
function outside(record, pair) {
  const all = pair.map((name) => ranks(record, name));
  const relevant = record.grades.map((_, n) => n).filter((n) => record.grades[n] > 0);
  const places = relevant.filter((n) => !all.some((own) => own[n] >= 1 && own[n] <= TOP));
  const count = places.length + record.relevant - relevant.length; // the page holds those of the best grades
  places.sort((x, y) => record.grades[y] - record.grades[x]);
  if (!places.length) return null;
  return el("details", { class: "outside" }, el("summary", null, `Relevant, but ${pair.length > 1 ? "in neither" : "not in its"} top ten: ${plural(count, count === 1 ? "document" : "documents")}${count > places.length ? `, here ${places.length} of the best grades` : ""}`),
    el("ul", null, places.map((n) => el("li", null, documentOf(record, n, pair.map((name, i) => [name, all[i][n]]))))));
}

function documentOf(record, n, elsewhere) {
  const grade = record.grades[n], number = record.documents[n];
  const { ids, texts } = task().embedded.documents;
  const best = Math.max(1, ...record.grades.filter((g) => g !== null));
  const level = grade === null ? "unjudged" : grade <= 0 ? "grade-0" : `grade-${Math.max(1, Math.ceil((3 * grade) / best))}`;
  return el("div", { class: "document" },
    el("div", { class: "about" }, el("span", { class: `grade ${level}`, title: grade === null ? "not judged" : `judged ${grade}` }, grade === null ? "?" : String(grade)),
      el("code", null, ids[number]), elsewhere.map(([name, rank]) => el("span", { class: "note" }, `${name}: ${rank || "not found"}`))),
    texts[number] ? el("p", { class: "text" }, texts[number]) : null);
}

begin();
