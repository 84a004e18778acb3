// The dialog: both photos side by side, the pairs of regions that decided the match, heat maps, views and facts.

import { ask, inGallery, Problem } from "./api.js";
import { pointed } from "./attention.js";
import * as details from "./details.js";
import { byId, make } from "./elements.js";
import { opinion } from "./feedback.js";
import { Heat } from "./heat.js";
import { comparable, kindOf, offer } from "./matches.js";
import { fit } from "./photo.js";
import { Regions, note } from "./regions.js";
import { compared, fits, ordered, shared, sign, trait } from "./traits.js";
import { chance, factsOf, likely, linkOf, moved, nameOf, percent, sentence, sureness } from "./words.js";

const TALLEST = "min(34rem, 56vh)";
const reasoning = () => document.querySelector("input[name=reasoning]:checked").value;

export class Comparison {
  // searchWith(match) searches with a gallery photo; explain(answer, match) gives its evidence and heat maps.
  constructor({ searchWith, explain }) {
    this.dialog = byId("compare");
    this.regions = new Regions();
    this.heat = new Heat();
    this.explain = explain;
    this.matches = [];
    this.at = 0;
    byId("close").addEventListener("click", () => this.leave());
    byId("previous").addEventListener("click", () => this.go(-1));
    byId("next").addEventListener("click", () => this.go(1));
    byId("more").addEventListener("click", () => { const match = this.shown; this.leave(); searchWith(match); });
    byId("reasoning").addEventListener("change", () => this.reasons());
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog && !within(this.dialog, event)) this.leave(); });
    this.dialog.addEventListener("close", () => { if (!this.dialog.open) this.shown = null; }); // by Escape; it may be open again
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.tagName === "INPUT") return; // arrow keys mean something else there
      if (event.key === "ArrowLeft") this.go(-1);
      if (event.key === "ArrowRight") this.go(1);
    });
  }

  // Open at one match of an answer. `photo` is the searched photo as it was sent, `garment` the name and kind of what was searched,
  // `asked` the attributes that the search named.
  open(answer, photo, at, { garment, asked }) {
    Object.assign(this, { answer, matches: answer.matches, query: answer.query, photo, garment, asked, ranked: comparable(answer) });
    if (!this.dialog.open) this.dialog.showModal();
    this.show(at);
  }

  // Close it; what still comes of the match that was shown is passed over.
  leave() {
    this.shown = null;
    this.dialog.close();
  }

  go(step) {
    const at = this.at + step;
    if (at >= 0 && at < this.matches.length) this.show(at);
  }

  show(at) {
    const match = this.matches[at];
    this.at = at;
    const step = [byId("previous"), byId("next")].find((button) => button === document.activeElement);
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === this.matches.length - 1;
    if (step?.disabled) byId("compare-title").focus(); // a disabled button would keep the keys to itself
    byId("compare-title").textContent = nameOf(match);
    byId("compare-kind").textContent = `${kindOf(this.answer, match)} · ${at + 1} of ${this.matches.length}`;
    byId("compare-kind").classList.toggle("best", kindOf(this.answer, match) === "Best match");
    this.views(match);
    this.duplicates(match);
    this.item(match);
    this.dialog.scrollTop = 0;
  }

  // Show one item: the match itself, or another view of its product. What decided it is asked for now, not by the search.
  async item(match) {
    const { answer } = this;
    this.shown = match;
    byId("compare-ranks").textContent = [
      match.probability === null ? "" : chance(match).join(" · "),
      match.score === null || !this.ranked ? `stage one #${match.stage1_rank}` : moved(match.stage1_rank, match.rank).slice(0, 2).join(""),
      match.score === null ? "" : `score ${match.score.toFixed(2)}`,
      `distance ${match.distance.toFixed(3)}`,
    ].filter(Boolean).join(" · ");
    offer(byId("compare-offer"), match);
    const link = linkOf(match);
    if (link) byId("compare-offer").append(make("a", { href: link, target: "_blank", rel: "noopener noreferrer", textContent: "View in shop" }));
    opinion(this.dialog.querySelector(".opinion"), answer, match);
    this.facts(match);
    this.regions.clear();
    this.heat.show(null, answer.query, match.stage);
    byId("reasoning").hidden = true;
    byId("sentence").textContent = "";
    byId("reasons-note").textContent = "Comparing the two photos …";
    byId("traits").hidden = true;
    this.record = this.told = null;
    this.photos(match, null);
    let failure = null;
    const failed = (error) => {
      if (error instanceof Problem) failure = error;
      else if (error.name !== "AbortError") throw error; // the page is being left
    };
    const asked = match.score === null ? null : this.explain(answer, match).catch(failed);
    const record = await ask(match.image_url.replace(/\/image(?=$|\?)/, "")).catch(failed), told = await asked;
    if (this.shown !== match) return; // the user has gone on
    this.record = record;
    this.told = told ?? null;
    this.photos(match, record);
    if (record && !failure) this.reasons();
    else byId("reasons-note").textContent = byId("sentence").textContent = failure ? `${failure.words.title}. ${failure.words.detail}` : "";
    this.traits();
    this.heat.show(told?.heatmaps, answer.query, told?.matcher ?? match.stage);
  }

  // What was told of attributes that such a garment can have, and of those that were asked for.
  attributes() {
    return (this.told?.attributes ?? []).filter(({ name }) => this.asked.includes(name) || fits(this.garment.kind, name));
  }

  // In which attributes the two are alike and different; where one is seen is shown while it is pointed at or pressed.
  traits() {
    const rows = ordered(this.attributes()).map((own) => {
      const told = trait(own), row = make("li"), button = make("button", { type: "button", className: "trait", title: "Shows where it is seen" });
      row.classList.toggle("technical", !this.asked.includes(own.name) && (told.same === null || told.absent));
      button.append(sign(told), make("b", { textContent: told.name }), make("span", { textContent: compared(told) }),
        make("span", { className: "technical", textContent: percent(Math.max(0, own.similarity)) }));
      pointed(button, { show: () => this.heat.look(own.name), hide: () => this.heat.look(null), hold: true });
      row.append(button);
      return row;
    });
    byId("traits").hidden = !rows.length;
    byId("traits").querySelector("ul").replaceChildren(...rows);
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
    const { evidence = [], evidence_before: earlier = [] } = this.told ?? {};
    const before = earlier.length > 0 && reasoning() === "evidence_before";
    const pairs = before ? earlier : evidence;
    byId("reasoning").hidden = !earlier.length;
    byId("reasons-note").textContent = note(pairs, before);
    byId("sentence").textContent = [
      sentence(evidence, this.query, this.record, { garment: this.garment.name, sure: likely(this.shown) }),
      shared(this.attributes(), this.asked),
    ].filter(Boolean).join(" ");
    this.regions.show(pairs, this.query, this.record);
  }

  views(match) {
    const views = match.views ?? [];
    byId("views").hidden = !views.length;
    const all = [match, ...views].map((view) => thumbnail(view.image_url, {
      words: details.shown() ? sureness(view) : "",
      label: `Photo ${view.id}${view === match ? ", the best one" : ""}`,
      pressed: view === match,
      press: (button) => this.view(match, view, button),
    }));
    byId("views").querySelector("ul").replaceChildren(...all);
  }

  view(match, view, button) {
    for (const each of byId("views").querySelectorAll("button")) each.setAttribute("aria-pressed", each === button);
    this.item(view === match ? match : { ...match, ...view });
  }

  duplicates(match) {
    const others = match.duplicates ?? [];
    byId("duplicates").hidden = !others.length;
    byId("duplicates").querySelector("ul").replaceChildren(...others.map((other) => thumbnail(other.image_url, { words: other.id })));
  }

  facts(match) {
    byId("facts").querySelector("dl").replaceChildren(...factsOf(match).flatMap(([key, value]) => {
      const term = make("dt"), text = make("dd");
      term.textContent = key;
      text.textContent = value;
      return [term, text];
    }));
  }
}

// Whether a pointer is inside of an element, its padding too.
function within(element, { clientX: x, clientY: y }) {
  const { left, top, right, bottom } = element.getBoundingClientRect();
  return left <= x && x <= right && top <= y && y <= bottom;
}

// A small photo with words below; a button where it can be pressed.
function thumbnail(address, { words, label, pressed, press }) {
  const item = make("li"), image = make("img", { src: inGallery(address), alt: "", loading: "lazy" });
  const text = make("span");
  text.textContent = words;
  if (!press) { item.append(image, text); return item; }
  const button = make("button", { type: "button", ariaLabel: words ? `${label}: ${words}` : label, ariaPressed: String(pressed) });
  button.append(image, text);
  button.addEventListener("click", () => press(button));
  item.append(button);
  return item;
}
