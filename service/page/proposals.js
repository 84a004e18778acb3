// Garments that the service sees in the photo, offered as frames to choose from.

import { Problem, ask } from "./api.js";

const MOST = 6;
const MISSING = [404, 405, 501]; // this service finds no garments by itself
const ALIKE = 0.9; // overlap (intersection over union) from which a proposal is the whole photo, or the frame

const byId = (id) => document.getElementById(id);
let found = []; // {edges, name} of the photo shown
let offered = true;

// Look for garments in the photo; `choose` is called with the edges of the one that the user takes.
export async function propose(photo, signal, choose) {
  clear();
  if (!offered || !photo.width) return;
  const form = new FormData();
  form.append("image", photo.file, photo.name);
  let answer;
  try {
    answer = await ask("/v1/detect", { method: "POST", form, signal });
  } catch (error) {
    if (error instanceof Problem && MISSING.includes(error.status)) offered = false;
    return; // proposals are a help; the search itself says what is wrong
  }
  if (signal.aborted) return;
  const { width, height } = answer, whole = { x0: 0, y0: 0, x1: 1, y1: 1 };
  found = answer.boxes.slice(0, MOST)
    .map(({ box: [x0, y0, x1, y1], label }) => ({ edges: { x0: x0 / width, y0: y0 / height, x1: x1 / width, y1: y1 / height }, label }))
    .filter(({ edges }) => overlap(edges, whole) < ALIKE);
  if (found.length) draw(choose);
}

export function clear() {
  found = [];
  byId("proposals").hidden = true;
  byId("proposals").replaceChildren();
  byId("proposed").replaceChildren();
}

// The smallest proposal around a point of the photo, as edges; undefined where there is none.
export function around({ x, y }) {
  const area = ({ x0, y0, x1, y1 }) => (x1 - x0) * (y1 - y0);
  return found.map(({ edges }) => edges)
    .filter(({ x0, y0, x1, y1 }) => x0 <= x && x <= x1 && y0 <= y && y <= y1)
    .sort((one, other) => area(one) - area(other))[0];
}

// Show which proposal, if any, is the present frame.
export function mark(edges) {
  [...byId("proposals").children].forEach((button, number) => {
    button.setAttribute("aria-pressed", overlap(found[number].edges, edges) >= ALIKE);
  });
}

function draw(choose) {
  const one = found.length === 1;
  const outlines = found.map(({ edges: { x0, y0, x1, y1 } }, number) => {
    const outline = document.createElement("i");
    Object.assign(outline.style, { left: `${100 * x0}%`, top: `${100 * y0}%`, width: `${100 * (x1 - x0)}%`, height: `${100 * (y1 - y0)}%` });
    outline.dataset.number = one ? "" : number + 1;
    return outline;
  });
  const buttons = found.map(({ edges, label }, number) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "chip" });
    button.textContent = `${one ? "" : `${number + 1} `}${label ?? (one ? "Only the garment" : "Garment")}`;
    button.addEventListener("click", () => choose(edges));
    for (const [event, on] of [["pointerenter", true], ["focus", true], ["pointerleave", false], ["blur", false]]) {
      button.addEventListener(event, () => outlines[number].classList.toggle("shown", on));
    }
    return button;
  });
  byId("proposed").replaceChildren(...outlines);
  byId("proposals").replaceChildren(...buttons);
  byId("proposals").hidden = false;
}

function overlap(one, other) {
  const wide = Math.min(one.x1, other.x1) - Math.max(one.x0, other.x0), tall = Math.min(one.y1, other.y1) - Math.max(one.y0, other.y0);
  if (wide <= 0 || tall <= 0) return 0;
  const area = ({ x0, y0, x1, y1 }) => (x1 - x0) * (y1 - y0);
  return wide * tall / (area(one) + area(other) - wide * tall);
}
