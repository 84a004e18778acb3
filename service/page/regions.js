// The pairs of regions that decided a match: drawn over both photos, linked by lines, and listed.

import { byId, make, shape } from "./elements.js";
import { SPREAD, percent, place } from "./words.js";

export class Regions {
  constructor() {
    this.pairs = [];
    this.photos = byId("compare").querySelectorAll(".photo");
    this.drawings = [...this.photos].map((photo) => photo.querySelector("svg"));
    this.drawings.forEach((drawing) => drawing.addEventListener("pointermove", ({ target }) => {
      const number = target.closest("[data-pair]")?.dataset.pair;
      if (number !== undefined) this.choose(Number(number));
    }));
    new ResizeObserver(() => this.link()).observe(byId("compare").querySelector(".pair"));
  }

  clear() {
    this.pairs = [];
    for (const drawing of [...this.drawings, byId("links"), byId("reasons")]) drawing.replaceChildren();
  }

  // Draw the pairs over a query and an item, each {width, height, box} in pixels of its upright photo.
  show(pairs, query, item) {
    this.clear();
    this.pairs = pairs;
    if (!pairs.length) return;
    [[query, "query_box"], [item, "item_box"]].forEach(([side, box], at) => outline(this.drawings[at], side, pairs.map((pair) => pair[box])));
    byId("reasons").replaceChildren(...pairs.map((pair, number) => this.row(pair, number, query, item)));
    this.ends = pairs.map((pair) => [middle(pair.query_box, query), middle(pair.item_box, item)]);
    this.choose(0);
  }

  row(pair, number, query, item) {
    const button = make("button", { type: "button" });
    const order = make("b"), words = make("span"), weight = make("span");
    const meter = make("meter", { max: this.pairs[0].weight || 1, value: pair.weight });
    meter.setAttribute("aria-hidden", "true");
    order.textContent = number + 1;
    words.textContent = `${place(pair.query_box, query.box)} ↔ ${place(pair.item_box, item.box)}`;
    weight.append(percent(pair.weight), meter);
    button.append(order, words, weight);
    for (const event of ["click", "focus", "pointerenter"]) button.addEventListener(event, () => this.choose(number));
    const row = make("li");
    row.append(button);
    return row;
  }

  choose(number) {
    if (this.chosen === number && this.drawings[0].querySelector(".chosen")) return;
    this.chosen = number;
    [...byId("reasons").children].forEach((row, at) => row.firstChild.setAttribute("aria-pressed", at === number));
    for (const drawing of this.drawings) {
      drawing.querySelector(".chosen")?.remove();
      const chosen = drawing.querySelector(`[data-pair="${number}"]`).cloneNode(true);
      chosen.removeAttribute("data-pair");
      chosen.setAttribute("class", "chosen");
      drawing.append(chosen); // a copy, on top of all
    }
    this.link();
  }

  // Lines from photo to photo, in pixels of the box around both.
  link() {
    if (!this.pairs.length) return;
    const whole = byId("compare").querySelector(".pair").getBoundingClientRect();
    const areas = [...this.photos].map((photo) => photo.getBoundingClientRect());
    byId("links").setAttribute("viewBox", `0 0 ${whole.width} ${whole.height}`);
    const lines = this.ends.map((ends, number) => {
      const [[x1, y1], [x2, y2]] = ends.map(([x, y], at) => [areas[at].left - whole.left + x * areas[at].width, areas[at].top - whole.top + y * areas[at].height]);
      const line = shape("g", { class: number === this.chosen ? "chosen" : "" });
      for (const kind of ["under", "over"]) line.append(shape("line", { x1, y1, x2, y2, class: kind }));
      if (number === this.chosen) for (const [cx, cy] of [[x1, y1], [x2, y2]]) line.append(shape("circle", { cx, cy, r: 4 }));
      return line;
    });
    lines.push(...lines.splice(this.chosen, 1)); // the chosen one on top
    byId("links").replaceChildren(...lines);
  }
}

// What to say above the list; `before` reasoning or after it.
export function note(pairs, before) {
  if (!pairs.length) return "Stage one compares overall looks only. Open the same item among the best matches to see which regions decide.";
  if (pairs[0].weight < SPREAD * pairs.at(-1).weight) return "No region stands out here: these weigh about the same as all others.";
  if (before) return "Your photo ↔ the gallery's: the pairs that are alike and listened to, before all regions are weighed together.";
  return "Your photo ↔ the gallery's, with their share of all that speaks for the match. Point at a pair to see it in both photos.";
}

// The middle of a box, in shares of the photo.
const middle = ([x0, y0, x1, y1], { width, height }) => [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height];

// Boxes over a photo, in its own pixels, the smaller ones on top; the part that was searched is dashed where it is not the whole.
function outline(drawing, { width, height, box: searched }, boxes) {
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const rectangle = ([x0, y0, x1, y1], kind) => shape("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: kind });
  const parts = [...boxes.entries()].sort(([, one], [, other]) => area(other) - area(one)).map(([number, box]) => {
    const group = shape("g", { "data-pair": number });
    group.append(rectangle(box, "under"), rectangle(box, "over"));
    return group;
  });
  if (searched[2] - searched[0] < width - 1 || searched[3] - searched[1] < height - 1) {
    parts.unshift(rectangle(searched, "under"), rectangle(searched, "searched"));
  }
  drawing.replaceChildren(...parts);
}
