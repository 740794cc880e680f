// The interaction graph on a canvas.
const layers = data.layers;
// Filled by layout(): columns[l] holds the visible nodes of layer l, drawn[p] the visible edges of pair p.
let columns = [], drawn = [], gap = 1, row = 1;
let view = { x: 0, y: 0, scale: 1 };
let hover = null, pin = null;
const canvas = $("canvas"), context = canvas.getContext("2d"), PAD = 44, TOP = 46, STEPS = 16, HEADING = "600 12px system-ui, sans-serif";
const ranked = layers.map((layer) => {
  const key = (i) => (layer.constant && i === 0 ? Infinity : layer.rank[i] ?? -1);
  return Array.from({ length: layer.width }, (_, i) => i).sort((a, b) => key(b) - key(a) || a - b);
});
const isConstant = (l, i) => layers[l].constant && i === 0;
const widest = Math.max(1, ...layers.map((l) => l.width));
const deepest = Math.max(1, ...data.edges.map((e) => e.at.length));
const label = (l, i) => `${layers[l].name} · ${i}${isConstant(l, i) ? " (constant)" : ""}`;
// The sliders run over 1..most on a logarithmic scale.
const fromSlider = (slider, most) => Math.round(Math.pow(most, slider.value / 1000));
const toSlider = (n, most) => (most > 1 ? Math.round((1000 * Math.log(Math.min(n, most))) / Math.log(most)) : 1000);

// The chosen norm for a pair. The weakest edge drawn stands for epsilon of the log norm, the weakest edge kept by ablation.
function norms(pair, hideConstant, weakest) {
  const scope = hideConstant ? 1 : 0;
  return {
    sqrt: (v) => Math.sqrt(v),
    identity: (v) => v,
    abs: (v) => v / (pair.sum[scope] || 1),
    max: (v) => v / (pair.max[scope] || 1),
    log: (v) => Math.log10(v / weakest),
  }[$("norm").value];
}

// Chooses what is visible and gives it places. Rows shrink until a column fits the canvas, then stop at a readable least.
function layout() {
  const most = fromSlider($("nodes"), widest), limit = fromSlider($("edges"), deepest), hide = $("constant").checked;
  const rows = Math.min(most, widest);
  row = clamp((canvas.clientHeight - TOP - 24) / rows, 7, 26);
  context.font = HEADING;
  const longest = Math.max(...layers.map((layer) => context.measureText(layer.name).width));
  gap = Math.max(130, Math.min(longest, 300) + 16, (canvas.clientWidth - 2 * PAD) / Math.max(1, layers.length - 1));
  columns = layers.map((layer, l) => {
    const shown = ranked[l].filter((i) => !(hide && isConstant(l, i))).slice(0, most);
    const top = Math.max(...shown.map((i) => (isConstant(l, i) ? 0 : layer.rank[i] ?? 0)), 0);
    return shown.map((i, place) => {
      const share = top > 0 && !isConstant(l, i) ? Math.sqrt((layer.rank[i] ?? 0) / top) : 0.3;
      return { layer: l, index: i, place, x: l * gap, y: place * row, r: row * (0.1 + 0.34 * share) };
    });
  });
  const lookup = columns.map((column) => new Map(column.map((node) => [node.index, node])));
  drawn = data.edges.map((pair) => {
    const edges = [];
    for (let k = 0; k < pair.at.length && edges.length < limit; k++) {
      const a = lookup[pair.from].get(pair.at[k] % pair.cols), b = lookup[pair.to].get(Math.floor(pair.at[k] / pair.cols));
      if (a && b) edges.push({ a, b, value: pair.value[k] });
    }
    const norm = norms(pair, hide, Math.abs(edges.at(-1)?.value));
    for (const edge of edges) edge.weight = norm(Math.abs(edge.value));
    return edges;
  });
  const heaviest = Math.max(...drawn.map((edges) => (edges.length ? edges[0].weight : 0)), 0) || 1;
  for (const edges of drawn) {
    // One path per sign and width: a few hundred strokes a frame instead of one for every edge.
    edges.bins = new Map();
    for (const edge of edges) {
      edge.level = clamp(Math.ceil((edge.weight / heaviest) * STEPS), 1, STEPS);
      const bin = edge.value < 0 ? -edge.level : edge.level;
      if (!edges.bins.has(bin)) edges.bins.set(bin, new Path2D());
      trace(edges.bins.get(bin), edge);
    }
  }
  // Focus is kept by name, since every node and edge was made anew.
  [pin, hover] = [refind(pin, lookup), refind(hover, lookup)];
  $("tip").hidden = true;
  const count = drawn.reduce((n, edges) => n + edges.length, 0), nodes = columns.reduce((n, column) => n + column.length, 0);
  $("drawn").textContent = `Drawn: ${grouped(nodes)} nodes, ${grouped(count)} edges (the strongest between visible nodes, of those embedded). `
    + "Node area follows importance within its layer; edge width follows the norm, relative to the heaviest edge drawn.";
  $("edges-out").textContent = grouped(limit);
  $("nodes-out").textContent = grouped(most);
  $("edges").setAttribute("aria-valuetext", `${limit} edges`);
  $("nodes").setAttribute("aria-valuetext", `${most} nodes`);
  showFocus();
}

function refind(focus, lookup) {
  if (!focus) return null;
  if (!focus.a) return lookup[focus.layer].get(focus.index) ?? null;
  const same = (one, other) => one.layer === other.layer && one.index === other.index;
  return drawn.flat().find((edge) => same(edge.a, focus.a) && same(edge.b, focus.b)) ?? null;
}

function trace(path, edge) {
  path.moveTo(edge.a.x, edge.a.y);
  path.lineTo(edge.b.x, edge.b.y);
}

let queued = false;
function redraw() {
  if (queued || !layers.length) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; draw(); });
}

function draw() {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue("--" + name).trim();
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const { x, y, scale } = view, focus = pin ?? hover;
  // Strokes keep their width when zooming in, and thin out when zooming out, where they would cover each other.
  const stroke = (path, bin, faint) => {
    const share = Math.abs(bin) / STEPS;
    context.strokeStyle = colour(bin < 0 ? "negative" : "positive");
    context.lineWidth = ((0.5 + 4.5 * share) * Math.min(1, Math.sqrt(scale))) / scale;
    context.globalAlpha = (0.25 + 0.55 * share) * (faint ? 0.15 : 1);
    context.stroke(path);
  };
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
  for (const edges of drawn) {
    if (!edges.length) continue;
    const [left, right] = [edges[0].a.x, edges[0].b.x].map((at) => at * scale + x).sort((p, q) => p - q);
    if (right < 0 || left > width) continue;
    for (const bin of [...edges.bins.keys()].sort((p, q) => Math.abs(p) - Math.abs(q))) stroke(edges.bins.get(bin), bin, focus);
  }
  const lit = new Set();
  if (focus) {
    for (const edge of drawn.flat()) {
      if (edge !== focus && edge.a !== focus && edge.b !== focus) continue;
      const path = new Path2D();
      trace(path, edge);
      stroke(path, edge.value < 0 ? -edge.level : edge.level, false);
      lit.add(edge.a).add(edge.b);
    }
    lit.add(focus);
  }
  for (const node of columns.flat()) {
    const left = node.x * scale + x;
    if (left < -20 || left > width + 20) continue;
    context.globalAlpha = !focus || lit.has(node) ? 1 : 0.3;
    context.fillStyle = colour(node === focus ? "accent" : "node");
    context.beginPath();
    // The constant node is a square: it is a direction of the basis, not a feature.
    if (isConstant(node.layer, node.index)) context.rect(node.x - row * 0.25, node.y - row * 0.25, row * 0.5, row * 0.5);
    else context.arc(node.x, node.y, node.r, 0, 2 * Math.PI);
    context.fill();
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawLabels(width, colour, lit, focus);
}

// Labels keep their size at every zoom, and layer names their place at the top.
function drawLabels(width, colour, lit, focus) {
  const { x, y, scale } = view;
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = colour("panel");
  context.fillStyle = colour("text");
  context.font = "10px system-ui, sans-serif";
  for (const node of columns.flat()) {
    const left = node.x * scale + x, at = [left + node.r * scale + 3, node.y * scale + y];
    if (left < -20 || left > width || (row * scale < 10 && !lit.has(node))) continue;
    context.globalAlpha = !focus || lit.has(node) ? 1 : 0.3;
    context.strokeText(node.index, ...at);
    context.fillText(node.index, ...at);
  }
  context.globalAlpha = 1;
  context.fillStyle = colour("panel");
  context.fillRect(0, 0, width, 26);
  context.fillStyle = colour("text");
  context.font = HEADING;
  let free = 4;
  layers.forEach((layer, l) => {
    const size = context.measureText(layer.name).width, middle = l * gap * scale + x;
    if (middle < 0 || middle > width) return;
    const left = clamp(middle - size / 2, 4, Math.max(4, width - size - 4));
    if (left < free) return;
    context.fillText(layer.name, left, 14);
    free = left + size + 12;
  });
}

// The node or edge under a point of the canvas, in pixels; nodes come first, then the nearest edge.
function pick(px, py) {
  const { scale } = view, x = (px - view.x) / scale, y = (py - view.y) / scale;
  for (const node of columns[Math.round(x / gap)] ?? []) {
    if (Math.hypot(node.x - x, node.y - y) <= node.r + 4 / scale) return node;
  }
  let best = null, nearest = 5 / scale;
  for (const edge of drawn.flat()) {
    const { a, b } = edge, run = b.x - a.x, share = (x - a.x) / run;
    if (!(share >= 0 && share <= 1)) continue;
    const distance = (Math.abs(a.y + share * (b.y - a.y) - y) * Math.abs(run)) / Math.hypot(run, b.y - a.y);
    if (distance < nearest) [best, nearest] = [edge, distance];
  }
  return best;
}

const title = (focus) => (focus.a ? `${label(focus.a.layer, focus.a.index)} → ${label(focus.b.layer, focus.b.index)}` : label(focus.layer, focus.index));
const fact = (focus) => (focus.a ? `E = ${num(focus.value)}` : `${layers[focus.layer].rank_name} = ${num(layers[focus.layer].rank[focus.index])}`);

function showFocus() {
  const focus = pin ?? hover, panel = $("panel");
  redraw();
  if (!focus) {
    panel.replaceChildren(el("p", { class: "small" }, "Point at a node or an edge for its values; click to pin it. Drag to move, wheel to zoom. "
      + "With the keyboard: focus the graph, arrow keys, Enter, Escape, + − 0."));
    return;
  }
  panel.replaceChildren(el("h3", {}, title(focus)), el("p", { class: "small" }, fact(focus) + (focus === pin ? " · pinned" : "")));
  if (focus.a) {
    for (const node of [focus.a, focus.b]) panel.append(el("p", { class: "small" }, `${title(node)}: ${fact(node)}`));
    return;
  }
  panel.append(...strongest("Strongest in", focus, "to"), ...strongest("Strongest out", focus, "from"));
}

// The strongest embedded edges on one side of a node, drawn or not.
function strongest(heading, node, side) {
  const found = [];
  for (const pair of data.edges.filter((e) => e[side] === node.layer)) {
    for (let k = 0, n = 0; k < pair.at.length && n < 8; k++) {
      const ends = { from: pair.at[k] % pair.cols, to: Math.floor(pair.at[k] / pair.cols) }, other = side === "to" ? "from" : "to";
      if (ends[side] === node.index) n = found.push([label(pair[other], ends[other]), pair.value[k]]);
    }
  }
  const item = ([name, value]) => el("li", {}, el("span", {}, name), el("span", value < 0 ? { class: "negative" } : {}, num(value)));
  return found.length ? [el("h3", {}, heading), el("ol", {}, ...found.map(item))] : [];
}

function zoom(factor, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) {
  const scale = clamp(view.scale * factor, 0.01, 40), ratio = scale / view.scale;
  view = { x: px - (px - view.x) * ratio, y: py - (py - view.y) * ratio, scale };
  redraw();
}

function reset() {
  view = { x: PAD, y: TOP, scale: 1 };
  redraw();
}

function fit() {
  const rows = Math.max(1, ...columns.map((column) => column.length)), wide = gap * Math.max(1, layers.length - 1);
  const scale = Math.min((canvas.clientWidth - 2 * PAD) / wide, (canvas.clientHeight - TOP - 24) / (rows * row), 1);
  view = { x: (canvas.clientWidth - gap * (layers.length - 1) * scale) / 2, y: TOP, scale };
  redraw();
}

// Arrow keys walk over the visible nodes; the view follows.
function step(across, down) {
  const at = pin ?? hover, from = at?.a ?? at;
  const used = columns.map((column, l) => (column.length ? l : -1)).filter((l) => l >= 0);
  if (!used.length) return;
  const layer = from ? used[clamp(used.indexOf(from.layer) + across, 0, used.length - 1)] : used[0];
  const node = columns[layer][from ? clamp(from.place + down, 0, columns[layer].length - 1) : 0];
  [hover, pin] = [node, null];
  const px = node.x * view.scale + view.x, py = node.y * view.scale + view.y;
  view.x += clamp(px, PAD, canvas.clientWidth - PAD) - px;
  view.y += clamp(py, TOP, canvas.clientHeight - 24) - py;
  showFocus();
}

function startGraph() {
  $("graph").hidden = false;
  $("edges").value = toSlider(100, deepest);
  $("nodes").value = toSlider(30, widest);
  $("constant-label").hidden = !layers.some((l) => l.constant);
  const signed = data.edges.some((e) => e.value.some((v) => v < 0));
  for (const sign of signed ? ["positive", "negative"] : []) $("legend").append(el("span", { class: "swatch", style: `background: var(--${sign})` }), sign);
  const events = {
    keydown(event) {
      const act = {
        ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1), ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0),
        Enter: () => { pin = pin ? null : hover; showFocus(); }, Escape: () => { pin = hover = null; showFocus(); },
        "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: reset,
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    },
    wheel(event) {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    },
    pointerdown(event) {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      drag = { x: event.offsetX, y: event.offsetY, moved: false, view: { ...view } };
    },
    pointermove(event) {
      const { offsetX: x, offsetY: y } = event;
      if (drag && (drag.moved ||= Math.hypot(x - drag.x, y - drag.y) > 4)) {
        view = { ...view, x: drag.view.x + x - drag.x, y: drag.view.y + y - drag.y };
        $("tip").hidden = true;
        return redraw();
      }
      const found = pick(x, y), tip = $("tip");
      tip.hidden = !found;
      if (found) {
        tip.textContent = `${title(found)}: ${fact(found)}`;
        tip.style.top = `${y + 16}px`;
        tip.style.left = `${clamp(x + 12, 0, Math.max(0, canvas.clientWidth - tip.offsetWidth - 4))}px`;
      }
      if (found !== hover) { hover = found; pin ? redraw() : showFocus(); }
    },
    pointerup(event) {
      if (drag && !drag.moved) { const found = pick(event.offsetX, event.offsetY); pin = found === pin ? null : found; showFocus(); }
      drag = null;
    },
    pointercancel() { drag = null; },
    pointerleave() { $("tip").hidden = true; if (hover) { hover = null; showFocus(); } },
  };
  let drag = null;
  for (const [name, act] of Object.entries(events)) canvas.addEventListener(name, act, { passive: false });
  for (const [id, act] of [["zoom-in", () => zoom(1.25)], ["zoom-out", () => zoom(0.8)], ["fit", fit], ["reset", reset]]) $(id).addEventListener("click", act);
  $("controls").addEventListener("input", layout);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(layout).observe(canvas);
  layout();
  reset();
}

if (layers.length) startGraph();
