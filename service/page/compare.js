// The dialog: both photos side by side, the pairs of regions that decided the match, heat maps, views and facts.

import { ask, inGallery, Problem } from "./api.js";
import { opinion } from "./feedback.js";
import { Heat } from "./heat.js";
import { comparable } from "./matches.js";
import { fit } from "./photo.js";
import { Regions, note } from "./regions.js";
import { chance, moved, nameOf, priceOf, spoken, sureness } from "./words.js";

const byId = (id) => document.getElementById(id);
const TALLEST = "min(27rem, 46vh)";
const reasoning = () => document.querySelector("input[name=reasoning]:checked").value;

export class Comparison {
  // searchWith(match) searches with a gallery photo; explain(id) gives one item's answer for the searched photo.
  constructor({ searchWith, explain }) {
    this.dialog = byId("compare");
    this.regions = new Regions();
    this.heat = new Heat();
    this.explain = explain;
    this.matches = [];
    this.at = 0;
    byId("close").addEventListener("click", () => this.dialog.close());
    byId("previous").addEventListener("click", () => this.go(-1));
    byId("next").addEventListener("click", () => this.go(1));
    byId("more").addEventListener("click", () => { this.dialog.close(); searchWith(this.shown); });
    byId("reasoning").addEventListener("change", () => this.reasons());
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.tagName === "INPUT") return; // arrow keys mean something else there
      if (event.key === "ArrowLeft") this.go(-1);
      if (event.key === "ArrowRight") this.go(1);
    });
  }

  // Open at one match of an answer. `photo` is the searched photo as it was sent.
  open(answer, photo, at) {
    Object.assign(this, { answer, matches: answer.matches, query: answer.query, photo, ranked: comparable(answer) });
    if (!this.dialog.open) this.dialog.showModal();
    this.show(at);
  }

  go(step) {
    const at = this.at + step;
    if (at >= 0 && at < this.matches.length) this.show(at);
  }

  show(at) {
    const match = this.matches[at];
    this.at = at;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === this.matches.length - 1;
    byId("compare-title").textContent = `${match.rank}. ${nameOf(match)}`;
    this.views(match);
    this.duplicates(match);
    this.item(match, this.answer);
    this.dialog.scrollTop = 0;
  }

  // Show one item: the match itself, or another view of its product.
  async item(match, answer) {
    this.shown = match;
    byId("compare-ranks").textContent = [
      priceOf(match),
      match.probability === null ? "" : chance(match).join(" · "),
      match.score === null || !this.ranked ? `stage one #${match.stage1_rank}` : moved(match.stage1_rank, match.rank).slice(0, 2).join(""),
      match.score === null ? "" : `score ${match.score.toFixed(2)}`,
      `distance ${match.distance.toFixed(3)}`,
    ].filter(Boolean).join(" · ");
    opinion(this.dialog.querySelector(".opinion"), answer, match);
    this.facts(match);
    this.regions.clear();
    this.heat.show(match.heatmaps, this.query, match.stage);
    byId("reasoning").hidden = true;
    byId("reasons-note").textContent = "Reading the item …";
    this.record = null;
    let failure = null;
    const record = await ask(match.image_url.replace(/\/image(?=$|\?)/, "")).catch((error) => { failure = error; });
    if (this.shown !== match) return; // the user has gone on
    this.record = record;
    this.photos(match, record);
    if (record) this.reasons();
    else byId("reasons-note").textContent = failure instanceof Problem ? `${failure.words.title}. ${failure.words.detail}` : "";
  }

  photos(match, record) {
    const mine = byId("mine"), theirs = byId("theirs"), { width, height } = this.query;
    if (this.photo.url) mine.src = this.photo.url; else mine.removeAttribute("src");
    fit(mine.parentElement, width, height, TALLEST);
    theirs.src = inGallery(match.image_url);
    theirs.alt = nameOf(match);
    if (record) fit(theirs.parentElement, record.width, record.height, TALLEST);
  }

  reasons() {
    const match = this.shown;
    const before = Boolean(match.evidence_before) && reasoning() === "evidence_before";
    const pairs = (before ? match.evidence_before : match.evidence) ?? [];
    byId("reasoning").hidden = !match.evidence_before;
    byId("reasons-note").textContent = note(pairs, before);
    this.regions.show(pairs, this.query, this.record);
  }

  views(match) {
    const views = match.views ?? [];
    byId("views").hidden = !views.length;
    const all = [match, ...views].map((view) => thumbnail(view.image_url, {
      words: sureness(view),
      label: `Photo ${view.id}${view === match ? ", the best one" : ""}`,
      pressed: view === match,
      press: (button) => this.view(match, view, button),
    }));
    byId("views").querySelector("ul").replaceChildren(...all);
  }

  // Another photo of the product is explained by a search for that one alone.
  async view(match, view, button) {
    for (const each of byId("views").querySelectorAll("button")) each.setAttribute("aria-pressed", each === button);
    if (view === match || view.score === null) { this.item({ ...match, ...view }, this.answer); return; }
    this.regions.clear();
    byId("reasons-note").textContent = "Comparing with this photo …";
    const answer = await this.explain(view.id).catch((error) => {
      if (!(error instanceof Problem)) throw error;
      byId("reasons-note").textContent = `${error.words.title}. ${error.words.detail}`;
    });
    if (this.matches[this.at] !== match || button.getAttribute("aria-pressed") !== "true" || !answer?.matches.length) return;
    this.item({ ...answer.matches[0], rank: match.rank, stage1_rank: view.stage1_rank }, answer);
  }

  duplicates(match) {
    const others = match.duplicates ?? [];
    byId("duplicates").hidden = !others.length;
    byId("duplicates").querySelector("ul").replaceChildren(...others.map((other) => thumbnail(other.image_url, { words: other.id })));
  }

  facts(match) {
    const known = Object.entries({ id: match.id, product: match.product_id, ...match.metadata })
      .filter(([, value]) => value !== null && value !== "");
    byId("facts").querySelector("dl").replaceChildren(...known.flatMap(([key, value]) => {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = spoken(key);
      text.textContent = typeof value === "object" ? JSON.stringify(value) : value;
      return [term, text];
    }));
  }
}

// A small photo with words below; a button where it can be pressed.
function thumbnail(address, { words, label, pressed, press }) {
  const item = document.createElement("li"), image = Object.assign(document.createElement("img"), { src: inGallery(address), alt: "", loading: "lazy" });
  const text = document.createElement("span");
  text.textContent = words;
  if (!press) { item.append(image, text); return item; }
  const button = Object.assign(document.createElement("button"), { type: "button", ariaLabel: `${label}: ${words}`, ariaPressed: String(pressed) });
  button.append(image, text);
  button.addEventListener("click", () => press(button));
  item.append(button);
  return item;
}
