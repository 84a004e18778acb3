// The garments that the service saw in the photo, as chips to choose from and as places to tap.

import { byId, make } from "./elements.js";
import { garmentName } from "./words.js";

const MOST = 5;
const SMALL = 0.01; // of the photo: what takes less is worn beside a garment, or a mistake
const SURE = 0.85; // score of a garment that is offered; the main one always is
const ALIKE = 0.9; // overlap (intersection over union) from which two boxes are one

const area = ({ x0, y0, x1, y1 }) => (x1 - x0) * (y1 - y0);
const WHOLE = { x0: 0, y0: 0, x1: 1, y1: 1 };
let found = []; // {edges, name, target}: what the chips offer

export function clear() {
  found = [];
  byId("proposals").hidden = true;
  byId("proposals").replaceChildren();
  byId("proposed").replaceChildren();
}

// Offer what an answer's `query` tells of the photo; `choose(target, edges)` is called with the one that the user takes.
// A target is what a search is asked for: "auto" the garment that the service found, "none" all of the photo, or edges.
export function offer(query, url, choose) {
  const { width, height, garments = [], chosen_by: by, garment } = query;
  const shares = ([x0, y0, x1, y1]) => ({ x0: x0 / width, y0: y0 / height, x1: x1 / width, y1: y1 / height });
  const searched = shares(query.box);
  found = garments.map(({ box, label, score }) => ({ edges: shares(box), label, score }))
    .filter(({ edges, score }, at) => (at === 0 && by === "detector") || (score >= SURE && area(edges) >= SMALL && overlap(edges, WHOLE) < ALIKE))
    .slice(0, MOST)
    .map(({ edges, label }, at) => (at === 0 && by === "detector"
      ? { edges: searched, label: garment ?? label, target: "auto" } : { edges, label, target: edges }));
  const names = found.map(({ label }) => garmentName(label));
  found.forEach((each, at) => {
    const before = names.slice(0, at).filter((name) => name === names[at]).length;
    each.name = before ? `${names[at]} ${before + 1}` : names[at];
  });
  if (!found.length) { clear(); return; }
  if (!found.some(({ edges }) => overlap(edges, WHOLE) >= ALIKE)) found.push({ edges: WHOLE, name: "Whole photo", target: "none" });
  draw(url, choose);
}

// The smallest garment around a point of the photo, {target, edges}; undefined where there is none.
export function around({ x, y }) {
  return found.filter(({ target, edges: { x0, y0, x1, y1 } }) => target !== "none" && x0 <= x && x <= x1 && y0 <= y && y <= y1)
    .sort((one, other) => area(one.edges) - area(other.edges))[0];
}

// Show which garment, if any, is searched: {name, kind}, empty texts where that is not known.
export function mark(target, edges) {
  let searched = { name: "", kind: "" };
  [...byId("proposals").children].forEach((button, at) => {
    const pressed = found[at].target === target || (typeof target !== "string" && overlap(found[at].edges, edges) >= ALIKE);
    if (pressed && found[at].target !== "none") searched = { name: found[at].name, kind: found[at].label ?? "" };
    button.setAttribute("aria-pressed", pressed);
  });
  return searched;
}

function draw(url, choose) {
  const outlines = found.map(({ edges: { x0, y0, x1, y1 } }) => {
    const outline = make("i");
    Object.assign(outline.style, { left: `${100 * x0}%`, top: `${100 * y0}%`, width: `${100 * (x1 - x0)}%`, height: `${100 * (y1 - y0)}%` });
    return outline;
  });
  const buttons = found.map(({ edges, name, target }, at) => {
    const button = make("button", { type: "button", className: "chip" });
    button.append(thumb(edges, url), name);
    button.addEventListener("click", () => choose(target, edges));
    for (const [event, on] of [["pointerenter", true], ["focus", true], ["pointerleave", false], ["blur", false]]) {
      button.addEventListener(event, () => outlines[at].classList.toggle("shown", on && target !== "none"));
    }
    return button;
  });
  byId("proposed").replaceChildren(...outlines);
  byId("proposals").replaceChildren(...buttons);
  byId("proposals").hidden = false;
}

// The part of the photo as a small round picture.
function thumb({ x0, y0, x1, y1 }, url) {
  const picture = make("span", { className: "thumb" });
  const wide = x1 - x0, tall = y1 - y0;
  Object.assign(picture.style, {
    backgroundImage: url ? `url("${url}")` : "",
    backgroundSize: `${100 / wide}% ${100 / tall}%`,
    backgroundPosition: `${wide < 1 ? 100 * x0 / (1 - wide) : 0}% ${tall < 1 ? 100 * y0 / (1 - tall) : 0}%`,
  });
  return picture;
}

function overlap(one, other) {
  const wide = Math.min(one.x1, other.x1) - Math.max(one.x0, other.x0), tall = Math.min(one.y1, other.y1) - Math.max(one.y0, other.y0);
  return wide <= 0 || tall <= 0 ? 0 : wide * tall / (area(one) + area(other) - wide * tall);
}
