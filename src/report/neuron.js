// The view of one neuron, `index.html#LAYER:NEURON`. Its data lie in a script beside the page, which a page opened
// from a disk may load where it may not read a file; the script calls mechgraphNeurons.
const loaded = new Map();
window.mechgraphNeurons = (layer, chunk, content) => loaded.set(`${layer}-${chunk}`, content);

function load(layer, chunk, done) {
  if (loaded.has(`${layer}-${chunk}`)) return done();
  const padded = (n) => String(n).padStart(4, "0");
  const script = el("script", { src: `data/neurons-${padded(layer)}-${padded(chunk)}.js` });
  const end = () => (script.remove(), done());
  script.addEventListener("load", end);
  script.addEventListener("error", end);
  document.head.append(script);
}

function route() {
  const match = /^#(\d{1,9}):(\d{1,9})$/.exec(location.hash);
  $("overview").hidden = !!match;
  $("one").hidden = !match;
  if (!match) return;
  const [layer, neuron] = [+match[1], +match[2]], chunk = Math.floor(neuron / data.chunk), asked = location.hash;
  load(layer, chunk, () => {
    if (location.hash !== asked) return;
    const content = loaded.get(`${layer}-${chunk}`);
    const record = content?.neurons.find((n) => n.neuron === neuron);
    const title = el("h2", { id: "one-title", tabindex: "-1" }, `Neuron ${layer}:${neuron}`);
    const body = record ? view(record, content.texts) : [el("p", { class: "note" }, missing(content))];
    $("one").replaceChildren(links(layer, neuron), title, ...body);
    title.focus();
    scrollTo(0, 0);
  });
}

const missing = (content) => (content ? "This run has no such neuron." : "There is no file of this neuron in the folder data beside this page.");

function links(layer, neuron) {
  const { layer: layers, neuron: neurons } = columns;
  const at = neurons.values.findIndex((n, i) => n === neuron && layers.values[i] === layer);
  const link = (i, text) => (i >= 0 && i < data.count ? [el("a", { href: "#" + nameOf(i) }, `${text} ${nameOf(i)}`)] : []);
  const around = at < 0 ? [] : [...link(at - 1, "Before:"), ...link(at + 1, "After:")];
  return el("nav", { "aria-label": "Neurons" }, el("a", { href: "#" }, "All neurons"), ...around);
}

function view(record, texts) {
  const parts = [el("p", {}, `${record.status}; maximum ${num(record.a_max)}; at ${num(100 * record.firing_rate)} % of all tokens it reaches half of that.`)];
  if (record.scores) parts.push(el("h3", {}, "Scores"), scoreTable(record.scores));
  if (record.graph?.nodes.length) parts.push(el("h3", {}, "Graph"), drawing(record.graph));
  else parts.push(el("p", { class: "small" }, "There is no graph of it."));
  if (record.exemplars.length) parts.push(el("h3", {}, "Strongest windows"), ...record.exemplars.map((e, i) => exemplar(e, i, record, texts)));
  return parts;
}

function scoreTable(scores) {
  const row = (tag, cells) => el("tr", {}, ...cells.map((c) => el(tag, {}, c)));
  const head = row("th", ["what predicts, on what", "precision", "recall", "F1", "95 % interval of F1", "fires", "predicted", "tokens"]);
  const body = scores.map((s) => {
    const [precision, recall, f1] = [s.precision, s.recall, s.f1].map((x) => x.toFixed(3));
    const interval = s.interval ? s.interval.map((x) => x?.toFixed(3) ?? "none").join(" to ") : "";
    return row("td", [s.what, precision, recall, f1, interval, ...[s.fires, s.predicted, s.tokens].map(grouped)]);
  });
  return el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body)));
}

// One column a depth, read from left to right into the token that fires; within a column, nodes stand near those
// that they lead to.
function drawing({ nodes, edges }) {
  const [W, H, ACROSS, DOWN, MARGIN] = [150, 50, 90, 14, 10];
  const depth = Math.max(...nodes.map((n) => n.depth)), levels = Array.from({ length: depth + 1 }, () => []);
  nodes.forEach((n, i) => levels[n.depth].push(i));
  const parents = nodes.map(() => []), y = [];
  for (const [parent, child] of edges) parents[child].push(parent);
  const tallest = Math.max(...levels.map((l) => l.length));
  for (const level of levels) {
    const wish = (i) => (parents[i].length ? parents[i].reduce((sum, p) => sum + y[p], 0) / parents[i].length : 0);
    const wishes = new Map(level.map((i) => [i, wish(i)]));
    level.sort((a, b) => wishes.get(a) - wishes.get(b) || a - b);
    level.forEach((i, k) => (y[i] = MARGIN + (k + (tallest - level.length) / 2) * (H + DOWN)));
  }
  const x = (i) => MARGIN + (depth - nodes[i].depth) * (W + ACROSS);
  const width = 2 * MARGIN + (depth + 1) * W + depth * ACROSS, height = 2 * MARGIN + tallest * (H + DOWN) - DOWN;
  const about = `Graph of ${nodes.length} tokens and ${edges.length} steps, read from left to right into the token that fires.`;
  const svg = el("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": about });
  const arrow = { id: "arrow", viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" };
  svg.append(el("defs", {}, el("marker", arrow, el("path", { d: "M0 0 L10 5 L0 10 z" }))));
  for (const [parent, child] of edges) {
    const [x1, y1, x2, y2] = [x(child) + W, y[child] + H / 2, x(parent) - 3, y[parent] + H / 2], bend = (x2 - x1) / 2;
    svg.append(el("path", { d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "marker-end": "url(#arrow)" }));
  }
  nodes.forEach((n, i) => {
    const box = el("rect", { x: x(i), y: y[i], width: W, height: H, fill: n.fill, "stroke-width": n.end ? 6 : 2 });
    const short = [...n.label].length > 17 ? [...n.label].slice(0, 16).join("") + "…" : n.label;
    const text = el("text", { x: x(i) + W / 2, y: y[i] + H / 2, "text-anchor": "middle", "dominant-baseline": "central", "xml:space": "preserve" }, short);
    text.style.fontSize = [...n.label].length < 12 ? "18px" : "13px";
    text.style.fill = n.dark ? "#fff" : "#000";
    svg.append(el("g", {}, el("title", {}, n.label + (n.end ? " (a pattern begins here)" : "")), box, text));
  });
  return el("div", { class: "drawing", tabindex: "0" }, svg);
}

function exemplar(e, number, record, texts) {
  const role = record.train.includes(number) ? "train" : record.test.includes(number) ? "held out" : "unused";
  const repeats = e.duplicate_of == null ? "" : `; nearly repeats number ${e.duplicate_of + 1}`;
  const tokens = e.tokens.map((id, k) => {
    const share = (e.levels[k] ?? 0) / 1000, peak = e.start + k === e.position;
    const token = el(peak ? "mark" : "span", { title: `${num(100 * share)} % of the maximum` }, texts[id] ?? `<id ${id}>`);
    token.style.background = `rgb(220 40 40 / ${(0.65 * clamp(share, 0, 1)).toFixed(3)})`;
    return token;
  });
  const head = `${number + 1}. ${num(e.value)}, window ${grouped(e.window)}, token ${e.position}; ${role}${repeats}`;
  return el("div", { class: "exemplar" }, el("div", { class: "small" }, head), el("p", {}, ...tokens));
}

window.addEventListener("hashchange", route);
route();
