// The curves: line charts in SVG with a read-out. Uses el, num and clamp of page.js.
const WIDE = 500, HIGH = 280, LEFT = 62, RIGHT = 16, UP = 12, DOWN = 44;

function linearTicks(low, high) {
  const raw = (high - low) / 5, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const size = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999), ticks = [];
  for (let k = Math.ceil(low / size - 1e-9); k * size <= high + size * 1e-9; k++) ticks.push(+(k * size).toPrecision(12));
  return ticks;
}

function logTicks(low, high) {
  const decades = high - low, inner = decades > 3 ? [1] : [1, 2, 5], every = Math.max(1, Math.ceil(decades / 8)), ticks = [];
  for (let k = Math.floor(low); k <= high; k += every) for (const m of inner) ticks.push(m * Math.pow(10, k));
  return ticks.filter((t) => Math.log10(t) >= low - 1e-9 && Math.log10(t) <= high + 1e-9);
}

function range(values) {
  // A fold: spreading a long curve into Math.min overflows the stack.
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]), margin = high > low ? 0 : Math.abs(low) * 0.1 || 1;
  return [low - margin, high + margin];
}

function chart(curve) {
  const figure = el("figure", {}, el("figcaption", {}, curve.title)), along = curve.log_x ? Math.log10 : (v) => v;
  const series = curve.series.map(([name, points], i) => ({
    name, colour: `var(--s${i % 6})`, dash: ["", "6 3", "2 3"][Math.floor(i / 6) % 3],
    points: points.filter(([x, y]) => x != null && y != null && (!curve.log_x || x > 0)).sort((p, q) => p[0] - q[0]),
  }));
  const all = series.flatMap((s) => s.points);
  if (!all.length) {
    figure.append(el("p", { class: "small" }, "No finite points to draw."));
    return figure;
  }
  const [x0, x1] = range(all.map((p) => along(p[0]))), [y0, y1] = range(all.map((p) => p[1]));
  const px = (x) => LEFT + ((along(x) - x0) / (x1 - x0)) * (WIDE - LEFT - RIGHT), py = (y) => HIGH - DOWN - ((y - y0) / (y1 - y0)) * (HIGH - UP - DOWN);
  const svg = el("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, tabindex: 0, role: "img", "aria-label": `${curve.title}: ${curve.y_label} over ${curve.x_label}. Arrow keys read the values.` });
  for (const x of curve.log_x ? logTicks(x0, x1) : linearTicks(x0, x1)) {
    svg.append(el("line", { class: "axis", x1: px(x), x2: px(x), y1: UP, y2: HIGH - DOWN }), el("text", { x: px(x), y: HIGH - DOWN + 15, "text-anchor": "middle" }, num(x)));
  }
  for (const y of linearTicks(y0, y1)) {
    svg.append(el("line", { class: "axis", x1: LEFT, x2: WIDE - RIGHT, y1: py(y), y2: py(y) }), el("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, num(y)));
  }
  svg.append(el("text", { x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 8, "text-anchor": "middle" }, curve.x_label));
  svg.append(el("text", { transform: `translate(13 ${(UP + HIGH - DOWN) / 2}) rotate(-90)`, "text-anchor": "middle" }, curve.y_label));
  for (const { points, colour, dash } of series) {
    const path = points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    svg.append(el("path", { class: "series", d: path, style: `stroke: ${colour}`, "stroke-dasharray": dash }));
    // A line of one point has no length, so single points get a mark.
    if (points.length === 1) svg.append(el("circle", { cx: px(points[0][0]), cy: py(points[0][1]), r: 3, style: `fill: ${colour}` }));
  }
  const marks = el("g", {}), legend = el("div", { class: "legend", "aria-live": "polite" }), stops = [...new Set(all.map((p) => p[0]))].sort((p, q) => p - q);
  svg.append(marks);
  const near = (points, x) => points.reduce((best, p) => (Math.abs(along(p[0]) - along(x)) < Math.abs(along(best[0]) - along(x)) ? p : best), points[0]);
  const read = (x) => {
    marks.replaceChildren();
    if (x != null) marks.append(el("line", { class: "axis", style: "stroke: var(--soft)", x1: px(x), x2: px(x), y1: UP, y2: HIGH - DOWN }));
    legend.replaceChildren(...series.map(({ name, points, colour }) => {
      const point = x != null && points.length ? near(points, x) : null;
      if (point) marks.append(el("circle", { cx: px(point[0]), cy: py(point[1]), r: 3.5, style: `fill: ${colour}` }));
      return el("span", {}, el("span", { class: "swatch", style: `background: ${colour}` }), name + (point ? `: ${num(point[1])} at ${num(point[0])}` : ""));
    }));
  };
  let at = -1;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * WIDE;
    at = stops.reduce((best, stop, i) => (Math.abs(px(stop) - x) < Math.abs(px(stops[best]) - x) ? i : best), 0);
    read(stops[at]);
  });
  svg.addEventListener("pointerleave", () => read(null));
  svg.addEventListener("blur", () => read(null));
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    at = clamp(at + move, 0, stops.length - 1);
    read(stops[at]);
  });
  read(null);
  figure.append(svg, legend);
  return figure;
}

if (data.curves.length) {
  $("curves").hidden = false;
  $("charts").append(...data.curves.map(chart));
}
