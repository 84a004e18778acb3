// The dialog: both photos side by side, with the pairs of regions that decided the match.

import { chance, moved, nameOf, percent, place, priceOf } from "./words.js";
import { fit } from "./photo.js";

const byId = (id) => document.getElementById(id);
const TALLEST = "min(27rem, 46vh)";
const SPREAD = 1.05; // heaviest over lightest weight; below it no pair stands out

const shape = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

export class Comparison {
  // searchWith is called with the address of a gallery photo.
  constructor(searchWith) {
    this.dialog = byId("compare");
    this.matches = [];
    this.at = 0;
    byId("close").addEventListener("click", () => this.dialog.close());
    byId("previous").addEventListener("click", () => this.show(this.at - 1));
    byId("next").addEventListener("click", () => this.show(this.at + 1));
    byId("more").addEventListener("click", () => { this.dialog.close(); searchWith(this.matches[this.at]); });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  // Open at one match of an answer. `photo` is the searched photo as it was sent.
  open(answer, photo, at) {
    Object.assign(this, { matches: answer.matches, query: answer.query, photo });
    if (!this.dialog.open) this.dialog.showModal();
    this.show(at);
  }

  async show(at) {
    const match = this.matches[at];
    this.at = at;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === this.matches.length - 1;
    byId("compare-title").textContent = `${match.rank}. ${nameOf(match)}`;
    byId("compare-ranks").textContent = [
      priceOf(match),
      match.probability === null ? `place in stage one, distance ${match.distance.toFixed(3)}` : chance(match.probability),
      match.probability === null ? "" : moved(match).slice(0, 2).join(""),
      match.score === null ? "" : `score ${match.score.toFixed(2)}, distance ${match.distance.toFixed(3)}`,
    ].filter(Boolean).join(" · ");
    this.facts(match);
    for (const drawing of this.dialog.querySelectorAll("svg")) drawing.replaceChildren();
    byId("reasons").replaceChildren();
    byId("reasons-note").textContent = "Reading the item …";
    const item = await fetch(match.image_url.replace(/\/image$/, ""))
      .then((response) => (response.ok ? response.json() : null)).catch(() => null);
    if (this.matches[this.at] !== match) return; // the user has gone on
    this.photos(match, item);
    this.reasons(match, item);
  }

  photos(match, item) {
    const mine = byId("mine"), theirs = byId("theirs"), { width, height } = this.query;
    if (this.photo.url) mine.src = this.photo.url; else mine.removeAttribute("src");
    fit(mine.parentElement, width, height, TALLEST);
    theirs.src = match.image_url;
    theirs.alt = nameOf(match);
    if (item) fit(theirs.parentElement, item.width, item.height, TALLEST);
  }

  reasons(match, item) {
    const pairs = item && match.evidence ? match.evidence : [];
    byId("reasons-note").textContent = this.note(match, item, pairs);
    if (!pairs.length) return;
    const [mine, theirs] = this.dialog.querySelectorAll("svg");
    draw(mine, this.query, pairs.map((pair) => pair.query_box), this.query.box);
    draw(theirs, item, pairs.map((pair) => pair.item_box), item.box);
    const rows = pairs.map((pair, number) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      const order = document.createElement("b"), words = document.createElement("div"), weight = document.createElement("span");
      const meter = Object.assign(document.createElement("meter"), { max: pairs[0].weight || 1, value: pair.weight });
      meter.setAttribute("aria-hidden", "true");
      order.textContent = number + 1;
      words.textContent = `${place(pair.query_box, this.query.box)} ↔ ${place(pair.item_box, item.box)}`;
      weight.append(percent(pair.weight), meter);
      button.append(order, words, weight);
      for (const event of ["click", "focus", "pointerenter"]) button.addEventListener(event, () => this.choose(number));
      const row = document.createElement("li");
      row.append(button);
      return row;
    });
    byId("reasons").replaceChildren(...rows);
    this.choose(0);
  }

  note(match, item, pairs) {
    if (!item) return "The item could not be read; it may have left the gallery since the search.";
    if (!pairs.length) return "Stage one compares overall looks only. Switch to Reranked to see which regions decide.";
    if (pairs[0].weight < SPREAD * pairs.at(-1).weight) return "No region stands out here: these weigh about the same as all others.";
    return "Your photo ↔ the gallery's, with their share of the decision. Point at a pair to see it in both photos.";
  }

  choose(number) {
    for (const [at, row] of [...byId("reasons").children].entries()) row.firstChild.setAttribute("aria-pressed", at === number);
    for (const drawing of this.dialog.querySelectorAll("svg")) {
      const chosen = drawing.querySelector(`[data-pair="${number}"]`);
      drawing.querySelector(".chosen")?.classList.remove("chosen");
      chosen.classList.add("chosen");
      drawing.append(chosen); // on top
    }
  }

  facts(match) {
    const known = Object.entries({ id: match.id, product: match.product_id, ...match.metadata })
      .filter(([, value]) => value !== null && value !== "");
    byId("facts").querySelector("dl").replaceChildren(...known.flatMap(([key, value]) => {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = key.replaceAll("_", " ");
      text.textContent = typeof value === "object" ? JSON.stringify(value) : value;
      return [term, text];
    }));
  }
}

// Boxes over a photo, in its own pixels; the part that was searched is dashed where it is not the whole.
function draw(drawing, { width, height }, boxes, searched) {
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  const outline = ([x0, y0, x1, y1], kind) => shape("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: kind });
  const parts = boxes.map((box, number) => {
    const group = shape("g", { "data-pair": number });
    const label = shape("text", { x: box[0] + width / 40, y: box[1] + width / 11, "font-size": width / 12, "stroke-width": width / 150 });
    label.textContent = number + 1;
    group.append(outline(box, "under"), outline(box, "over"), label);
    return group;
  });
  if (searched[2] - searched[0] < width - 1 || searched[3] - searched[1] < height - 1) {
    parts.unshift(outline(searched, "under"), outline(searched, "searched"));
  }
  drawing.replaceChildren(...parts);
}
