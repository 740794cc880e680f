// The list of neurons: filtered, sorted, and shown a page at a time.
const PAGE = 100;
const columns = data.columns;
let order = { key: "f1", down: true }, chosen = [], page = 0;
const value = (key, i) => columns[key].values[i];
const nameOf = (i) => `${value("layer", i)}:${value("neuron", i)}`;
const SCORES = ["precision", "recall", "f1", "token_f1", "ngram_f1", "text_f1"];

function shown(key, i) {
  const x = value(key, i);
  if (x == null) return "";
  return key === "status" ? data.statuses[x] : SCORES.includes(key) ? x.toFixed(3) : num(x);
}

// Whatever has no value stands last, in either order; ties are in the order of the run.
function compare(a, b) {
  const x = value(order.key, a), y = value(order.key, b);
  if (x == null || y == null) return (x == null) - (y == null) || a - b;
  return (order.down ? y - x : x - y) || a - b;
}

function choose() {
  const layer = $("layer").value, status = $("status").value, least = $("least").value, name = $("name").value.trim();
  chosen = [];
  for (let i = 0; i < data.count; i++) {
    if (layer !== "" && value("layer", i) !== +layer) continue;
    if (status !== "" && value("status", i) !== +status) continue;
    if (least !== "" && !(value("f1", i) >= +least)) continue;
    if (name !== "" && !(name.includes(":") ? nameOf(i).startsWith(name) : String(value("neuron", i)) === name)) continue;
    chosen.push(i);
  }
  chosen.sort(compare);
  turn(0);
}

function turn(to) {
  const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
  page = clamp(to, 0, pages - 1);
  const from = page * PAGE, rows = chosen.slice(from, from + PAGE);
  $("rows").replaceChildren(...rows.map((i) => el("tr", {}, ...Object.keys(columns).map((key) => cell(key, i)))));
  const which = rows.length ? `${grouped(from + 1)} to ${grouped(from + rows.length)} of ` : "";
  const all = chosen.length < data.count ? `; ${grouped(data.count)} in all` : "";
  $("count").textContent = `${which}${grouped(chosen.length)} neurons${all}`;
  for (const id of ["first", "previous"]) $(id).disabled = page === 0;
  for (const id of ["next", "last"]) $(id).disabled = page === pages - 1;
  for (const th of $("head").children) {
    if (th.dataset.key === order.key) th.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  }
}

function cell(key, i) {
  return el("td", {}, key === "neuron" ? el("a", { href: "#" + nameOf(i), "aria-label": `Neuron ${nameOf(i)}` }, shown(key, i)) : shown(key, i));
}

function sortBy(key) {
  order = { key, down: order.key === key ? !order.down : !["layer", "neuron", "status"].includes(key) };
  choose();
}

for (const [key, column] of Object.entries(columns)) {
  const button = el("button", { type: "button", title: column.about }, column.title);
  button.addEventListener("click", () => sortBy(key));
  $("head").append(el("th", { scope: "col", "data-key": key }, button));
}
for (const layer of new Set(columns.layer.values)) $("layer").append(el("option", { value: layer }, String(layer)));
data.statuses.forEach((status, i) => $("status").append(el("option", { value: i }, status)));
if (columns.f1.values.every((x) => x == null)) order = { key: "layer", down: false };
for (const id of ["layer", "status", "name", "least"]) $(id).addEventListener("input", choose);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("first").addEventListener("click", () => turn(0));
$("previous").addEventListener("click", () => turn(page - 1));
$("next").addEventListener("click", () => turn(page + 1));
$("last").addEventListener("click", () => turn(Infinity));
$("all").hidden = false;
choose();
