"use strict";
// What the scripts of all pages share: the embedded data, numbers as text, and elements.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const grouped = (n) => n.toLocaleString("en");
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

function num(x) {
  if (x == null) return "none";
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(3) : String(+x.toPrecision(5));
}

// Children are set as text, never as markup: names come from files.
function el(tag, attributes, ...children) {
  const svg = ["svg", "line", "path", "text", "circle", "g", "rect", "defs", "marker", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
