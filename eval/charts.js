"use strict";
/* Charts as inline SVG: lines with a reading at the pointer or cursor, points with names, bars of differences. */

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const SHAPES = ["circle", "square", "triangle", "diamond"];

/* A node with attributes (on... are listeners; null and false are left out) and children, texts as texts. */
function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}
const el = (name, attributes, ...children) => make(document.createElement(name), attributes, children);
const sv = (name, attributes, ...children) => make(document.createElementNS(SVG, name), attributes, children);

const look = (number, palette) => ({
  color: palette[number % palette.length],
  dash: DASHES[Math.floor(number / palette.length) % DASHES.length],
  shape: SHAPES[Math.floor(number / palette.length) % SHAPES.length],
});

function mark(style, x, y, r, attributes) {
  const shared = { fill: style.color, ...attributes };
  if (style.shape === "circle") return sv("circle", { cx: x, cy: y, r, ...shared });
  const corners = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    triangle: [[0, -1.2], [1.15, 1], [-1.15, 1]],
    diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
  }[style.shape];
  return sv("path", { d: "M" + corners.map(([a, b]) => `${x + a * r} ${y + b * r}`).join("L") + "Z", ...shared });
}

/* Round numbers from low to high, about as many as wanted. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

/* 1, 2, 5, 10, ... from low to high; only powers of ten where these are many. */
function logTicks(low, high, wanted) {
  const found = [];
  const steps = Math.log10(high / low) * 3 > wanted ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const step of steps) {
      const value = step * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(Number(value.toPrecision(6)));
    }
  return found;
}

/* Marks without those that would stand in another's way; the last stays. */
function spaced(marks) {
  const kept = [];
  for (const one of [...marks].reverse()) if (!kept.length || kept[kept.length - 1][0] - one[0] > 34) kept.push(one);
  return kept.reverse();
}

const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(4)));
};

/* A scale from a domain to pixels. */
function scale(domain, range, log) {
  const f = log ? Math.log10 : (v) => v;
  const [a, b] = domain.map(f);
  return (value) => range[0] + ((f(value) - a) / (b - a || 1)) * (range[1] - range[0]);
}

/* Low and high of some values with room around them; a log domain keeps above 0. */
function domain(values, log, margin) {
  const low = Math.min(...values), high = Math.max(...values);
  if (log) return low === high ? [low / 2, high * 2] : [low * (low / high) ** margin, high * (high / low) ** margin];
  const room = low < high ? (high - low) * margin : Math.abs(high) * 0.1 || 0.1;
  return [low - room, high + room];
}

/* Labels moved apart, down their column, as little as keeps them `gap` from each other. */
function apart(labels, gap, low, high) {
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((label, n) => { label.y = Math.max(label.y, n ? labels[n - 1].y + gap : low); });
  for (let n = labels.length - 1; n >= 0; n--)
    labels[n].y = Math.min(labels[n].y, n + 1 < labels.length ? labels[n + 1].y - gap : high);
  return labels;
}

function axes(frame, x, y, xLabel, yLabel) {
  const { left, top, width, height } = frame;
  const group = sv("g", { class: "axes" });
  for (const [at, label] of y)
    group.append(
      sv("line", { x1: left, x2: left + width, y1: at, y2: at, class: "grid" }),
      sv("text", { x: left - 6, y: at, dy: ".32em", "text-anchor": "end" }, label),
    );
  group.append(sv("line", { x1: left, x2: left + width, y1: top + height, y2: top + height, class: "axis" }));
  for (const [at, label] of x)
    make(group, null, [
      sv("line", { x1: at, x2: at, y1: top + height, y2: top + height + 4, class: "axis" }),
      label.split("\n").map((line, n) => sv("text", { x: at, y: top + height + 17 + 14 * n, "text-anchor": "middle" }, line)),
    ]);
  group.append(
    sv("text", { x: left + width / 2, y: top + height + (x.some(([, label]) => label.includes("\n")) ? 51 : 36), "text-anchor": "middle", class: "label" }, xLabel),
    sv("text", { x: left - 44, y: top - 10, class: "label" }, yLabel),
  );
  return group;
}

/* A chart's place: the picture, what it reads out, its legend where names do not fit beside the lines, its numbers. */
function figure(name, build) {
  const reading = el("div", { class: "reading", role: "status", hidden: true });
  const canvas = el("div", { class: "canvas" });
  const box = el("figure", { "aria-label": name }, canvas, reading);
  box.draw = () => {
    reading.hidden = true;
    const made = build(Math.max(300, Math.min(1160, box.clientWidth || 640)), reading);
    canvas.replaceChildren(...[made].flat());
  };
  return box;
}

function place(reading, at, width, ...content) {
  reading.replaceChildren(...content);
  reading.hidden = false;
  const flip = at > width / 2;
  reading.style.left = flip ? "auto" : `${(100 * (at + 12)) / width}%`;
  reading.style.right = flip ? `${(100 * (width - at + 12)) / width}%` : "auto";
}

/* Lines. options: series [{name, style, points [[x, y]]}], x, y (labels), log, categories [labels], from0, digits. */
function lineChart(options) {
  const series = options.series.filter((one) => one.points.length);
  return figure(`${options.y} by ${options.x}`, (width, reading) => {
    const wide = width >= 640 && series.length <= 24;
    const longest = Math.max(0, ...series.map((one) => one.name.length));
    const right = wide ? Math.min(240, 26 + longest * 7.6) : 14;
    const frame = { left: 52, top: 26, width: width - 52 - right, height: wide ? Math.max(280, series.length * 15) : 240 };
    const bottom = frame.top + frame.height, end = frame.left + frame.width;
    const all = series.flatMap((one) => one.points);
    if (!all.length) return el("p", { class: "note" }, "No system is chosen.");
    const places = [...new Set(all.map((p) => p[0]))].sort((a, b) => a - b);
    const xs = options.categories ? [-0.35, options.categories.length - 0.65] : domain(places, options.log, 0);
    const ys = domain(all.map((p) => p[1]), false, 0.06);
    if (options.from0) { ys[0] = 0; ys[1] = Math.min(ys[1], Math.max(1, ...all.map((p) => p[1]))); }
    const x = scale(xs, [frame.left, end], options.log), y = scale(ys, [bottom, frame.top]);
    const wanted = frame.width / 90;
    const marks = options.categories
      ? options.categories.map((label, n) => [x(n), label])
      : spaced((options.log ? (places.length < 16 ? places : logTicks(...xs, frame.width / 38)) : ticks(...xs, wanted)).map((v) => [x(v), short(v)]));
    const picture = sv("svg", {
      viewBox: `0 0 ${width} ${bottom + (options.categories ? 59 : 44)}`, tabindex: 0, role: "img",
      "aria-label": `${options.y} by ${options.x}, ${series.length} lines; arrow keys read the values`,
    });
    picture.append(axes(frame, marks, ticks(...ys, 6).map((v) => [y(v), short(v)]), options.x, options.y));
    for (const one of series) {
      const line = one.points.map(([a, b]) => [x(a), y(b)]);
      const group = sv("g", { "data-series": one.name });
      if (!options.categories || line.length > 1)
        group.append(sv("path", {
          d: "M" + line.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L"),
          fill: "none", stroke: one.style.color, "stroke-width": 2, "stroke-dasharray": one.style.dash,
        }));
      if (line.length <= 40) for (const [a, b] of line) group.append(mark(one.style, a, b, 3.2));
      picture.append(group);
    }
    if (wide) {
      const labels = series.map((one) => ({ one, y: y(one.points[one.points.length - 1][1]) }));
      for (const { one, y: at } of apart(labels, 14, frame.top, bottom)) {
        const last = one.points[one.points.length - 1];
        picture.append(sv("g", { "data-series": one.name },
          sv("path", { d: `M${x(last[0]) + 5} ${y(last[1])}L${end + 14} ${at}`, stroke: one.style.color, class: "lead" }),
          sv("text", { x: end + 17, y: at, dy: ".32em", fill: one.style.color, class: "name" }, one.name)));
      }
    }
    const cursor = sv("line", { y1: frame.top, y2: bottom, class: "cursor", visibility: "hidden" });
    picture.append(cursor);
    let now = -1;
    const read = (n) => {
      now = Math.max(0, Math.min(places.length - 1, n));
      const at = x(places[now]);
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, at);
      cursor.setAttribute("visibility", "visible");
      const found = series.flatMap((one) => one.points.filter((p) => p[0] === places[now]).map((p) => [one, p[1]]));
      found.sort((a, b) => b[1] - a[1]);
      const name = options.categories ? options.categories[places[now]].replace("\n", " ") : `${options.x} ${short(places[now])}`;
      place(reading, at, width, el("b", null, name), el("table", null, found.map(([one, value]) =>
        el("tr", null, el("td", null, swatch(one.style), one.name), el("td", null, value.toFixed(options.digits || 4))))));
    };
    const hide = () => { reading.hidden = true; cursor.setAttribute("visibility", "hidden"); };
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      read(places.reduce((best, value, n) => (Math.abs(x(value) - at) < Math.abs(x(places[best]) - at) ? n : best), 0));
    });
    picture.addEventListener("pointerleave", hide);
    picture.addEventListener("blur", hide);
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { event.preventDefault(); read(now + step); }
      if (event.key === "Escape") hide();
    });
    return [picture, wide ? null : legend(series), numbers(options, series, places)].filter(Boolean);
  });
}

const swatch = (style) => sv("svg", { viewBox: "0 0 26 10", class: "swatch", "aria-hidden": "true" },
  sv("path", { d: "M0 5H26", stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash }), mark(style, 13, 5, 3.2));

const legend = (series) => el("ul", { class: "legend" },
  series.map((one) => el("li", { "data-series": one.name }, swatch(one.style), one.name)));

/* The numbers of a chart, made when they are asked for. */
function numbers(options, series, places) {
  const box = el("details", { class: "numbers", ontoggle: () => {
    if (!box.open || box.querySelector("table")) return;
    const value = (one, at) => one.points.find((p) => p[0] === at);
    box.append(el("div", { class: "scroll", tabindex: 0 }, el("table", null,
      el("tr", null, el("th", { scope: "col" }, options.x), series.map((one) => el("th", { scope: "col" }, one.name))),
      places.map((at) => el("tr", null,
        el("th", { scope: "row" }, options.categories ? options.categories[at].replace("\n", " ") : short(at)),
        series.map((one) => el("td", null, value(one, at) ? value(one, at)[1].toFixed(options.digits || 4) : "–")))))));
  } }, el("summary", null, "Numbers"));
  return box;
}

/* Where a name of this width stands beside a point: right or left of it, as near its height as others let it. */
function beside(x, y, width, low, high, others) {
  const places = [0, 1, -1, 2, -2, 3, -3].flatMap((step) => [x + 9, x - 9 - width].map((at) => ({ x: at, y: y + step * 7, w: width })));
  const free = (one) => one.x >= low && one.x + width <= high
    && !others.some((o) => Math.abs(o.y - one.y) < 12 && o.x < one.x + one.w && one.x < o.x + o.w);
  return places.find(free) || places[x + 9 + width > high ? 1 : 0];
}

/* Points with names, and the line of those that no cheaper one matches. points: [{name, style, x, y}] */
function scatterChart(options) {
  const points = options.points.filter((p) => p.x !== null && p.y !== null);
  return figure(`${options.y} against ${options.x}`, (width, reading) => {
    if (!points.length) return el("p", { class: "note" }, "No system that is shown has this cost.");
    const positive = points.map((p) => p.x).filter((v) => v > 0);
    const log = positive.length === points.length && Math.max(...positive) / Math.min(...positive) > 8;
    const frame = { left: 52, top: 26, width: width - 52 - 16, height: width >= 640 ? 320 : 260 };
    const bottom = frame.top + frame.height, end = frame.left + frame.width;
    const xs = domain(points.map((p) => p.x), log, 0.08), ys = domain(points.map((p) => p.y), false, 0.12);
    if (!log) xs[0] = Math.max(xs[0], Math.min(0, ...points.map((p) => p.x)));
    const x = scale(xs, [frame.left, end], log), y = scale(ys, [bottom, frame.top]);
    const picture = sv("svg", { viewBox: `0 0 ${width} ${bottom + 44}`, role: "group", "aria-label": `${options.y} against ${options.x}` });
    const marks = (log ? logTicks(...xs, frame.width / 50) : ticks(...xs, frame.width / 90)).map((v) => [x(v), short(v)]);
    picture.append(axes(frame, marks, ticks(...ys, 6).map((v) => [y(v), short(v)]), options.x, options.y));
    const best = [];
    for (const p of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) if (!best.length || p.y > best[best.length - 1].y) best.push(p);
    picture.append(sv("path", { d: "M" + best.map((p) => `${x(p.x)} ${y(p.y)}`).join("L"), class: "front" }));
    const dots = points.map((p) => ({ p, x: x(p.x) - 7, y: y(p.y), w: 14 })), taken = [];
    for (const p of [...points].sort((a, b) => b.y - a.y)) {
      const label = beside(x(p.x), y(p.y), p.name.length * 7.4, frame.left, end, [...taken, ...dots.filter((dot) => dot.p !== p)]);
      taken.push(label);
      const say = `${p.name}: ${p.y.toFixed(4)} at ${short(p.x)} ${options.x}`;
      const group = sv("g", { "data-series": p.name, tabindex: 0, role: "img", "aria-label": say, class: "point",
        onfocus: () => place(reading, x(p.x), width, say), onblur: () => { reading.hidden = true; },
        onpointerenter: () => place(reading, x(p.x), width, say), onpointerleave: () => { reading.hidden = true; } },
        mark(p.style, x(p.x), y(p.y), 5.5),
        sv("text", { x: label.x, y: label.y, dy: ".32em", class: "name", fill: p.style.color }, p.name));
      picture.append(group);
    }
    return picture;
  });
}

/* Sorted differences, one bar a query. options: bars [{query, value, text}], y, chosen, onchoose(query), describe(bar). */
function barChart(options) {
  const { bars } = options;
  return figure("differences by query", (width, reading) => {
    const frame = { left: 52, top: 26, width: width - 52 - 12, height: width >= 640 ? 260 : 220 };
    const bottom = frame.top + frame.height;
    const largest = Math.max(1e-4, ...bars.map((b) => b.value)), least = Math.min(0, ...bars.map((b) => b.value));
    const y = scale([least - 0.03 * (largest - least), largest * 1.03], [bottom, frame.top]);
    const step = frame.width / bars.length, wide = step * (step > 4 ? 0.82 : 1);
    const at = (n) => frame.left + n * step;
    const draw = (kept) => bars.map((b, n) => (kept(b.value)
      ? `M${at(n).toFixed(2)} ${y(0).toFixed(1)}h${wide.toFixed(2)}V${y(b.value).toFixed(1)}h${(-wide).toFixed(2)}z` : "")).join("");
    const zero = bars.filter((b) => b.value === 0).length;
    const picture = sv("svg", {
      viewBox: `0 0 ${width} ${bottom + 44}`, tabindex: 0, role: "slider", class: "bars", "aria-orientation": "horizontal",
      "aria-label": `${options.y} by query, sorted; arrow keys move, Enter shows the query`, "aria-valuemin": 1, "aria-valuemax": bars.length,
    });
    const under = `${bars.length.toLocaleString("en")} queries, sorted` + (zero ? `, ${zero.toLocaleString("en")} of them at 0` : "");
    picture.append(axes(frame, [], ticks(least, largest, 6).map((v) => [y(v), short(v)]), under, options.y));
    const glow = sv("rect", { y: frame.top, height: frame.height, width: Math.max(wide, 3), class: "glow", visibility: "hidden" });
    const pick = sv("rect", { y: frame.top, height: frame.height, width: Math.max(wide, 3), class: "picked", visibility: "hidden" });
    picture.append(pick, glow, sv("path", { d: draw((v) => v > 0), class: "gain" }), sv("path", { d: draw((v) => v < 0), class: "loss" }),
      sv("line", { x1: frame.left, x2: frame.left + frame.width, y1: y(0), y2: y(0), class: "axis" }));
    const put = (rect, n) => { rect.setAttribute("x", at(n) + wide / 2 - Math.max(wide, 3) / 2); rect.setAttribute("visibility", "visible"); };
    const chosen = bars.findIndex((b) => b.query === options.chosen);
    if (chosen >= 0) put(pick, chosen);
    let now = chosen;
    const move = (n) => {
      now = Math.max(0, Math.min(bars.length - 1, n));
      put(glow, now);
      picture.setAttribute("aria-valuenow", now + 1);
      picture.setAttribute("aria-valuetext", options.describe(bars[now]));
      place(reading, at(now), width, options.describe(bars[now]));
    };
    const under_pointer = (event) => {
      const box = picture.getBoundingClientRect();
      return Math.floor((((event.clientX - box.left) / box.width) * width - frame.left) / step);
    };
    const hide = () => { reading.hidden = true; glow.setAttribute("visibility", "hidden"); };
    const choose = (keyboard) => { put(pick, now); options.onchoose(bars[now].query, keyboard); };
    picture.addEventListener("pointermove", (event) => move(under_pointer(event)));
    picture.addEventListener("pointerleave", hide);
    picture.addEventListener("blur", hide);
    picture.addEventListener("click", (event) => { move(under_pointer(event)); choose(false); });
    picture.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
      if (event.key in steps) { event.preventDefault(); move(steps[event.key] === Infinity ? bars.length - 1 : now + steps[event.key]); }
      if (event.key === "Enter" && now >= 0) { event.preventDefault(); choose(true); }
      if (event.key === "Escape") hide();
    });
    return picture;
  });
}
