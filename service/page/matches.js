// The matches as cards, and what is said of the answer as a whole.

import { inGallery } from "./api.js";
import { opinion } from "./feedback.js";
import { chance, count, moved, nameOf, priceOf, sureness, timings } from "./words.js";

const byId = (id) => document.getElementById(id);

// Show an answer; `open(at)` is called for the match that the user picks.
export function draw(answer, open) {
  const ranked = comparable(answer);
  byId("matches").replaceChildren(...answer.matches.map((match, at) => card(answer, match, { ranked, open: () => open(at) })));
}

// Whether places in stage one and in the answer count the same things: not where items are folded into others.
export const comparable = ({ matches }) => !matches.some(({ views, duplicates }) => views?.length || duplicates?.length);

// Say how the search went, and plainly when nothing fits.
export function tell(answer, { filtered }) {
  const { matches, candidates, gallery, no_match: none } = answer;
  byId("status").textContent = none ? "" : `${matches.length} of ${count(candidates, "item")} compared closely, likeliest first.`;
  byId("timings").textContent = `${timings(answer.timings_ms)} · ${count(gallery.items, "item")}, generation ${gallery.generation}`;
  const [heading, words] = byId("verdict").children, best = matches[0];
  byId("verdict").hidden = !none;
  if (!none) return;
  heading.textContent = "No match";
  if (best) {
    words.textContent = `Probably nothing in this gallery is the garment; the closest is ${sureness(best)} likely. `
      + "The closest are below. Framing the garment more closely can help.";
  } else if (filtered) {
    words.textContent = "Nothing in the gallery meets these filters and options. Remove a filter, or loosen the search options.";
  } else {
    words.textContent = "Nothing in the gallery is likely enough. Frame the garment more closely, or loosen the search options.";
  }
}

function card(answer, match, { ranked, open }) {
  const item = byId("match").content.cloneNode(true).firstElementChild;
  const part = (selector) => item.querySelector(selector);
  part("img").src = inGallery(match.image_url);
  part("img").addEventListener("error", (event) => { event.target.alt = "photo not available"; });
  part(".rank").textContent = match.rank;
  part(".open").textContent = nameOf(match);
  part(".open").addEventListener("click", open);
  part(".price").textContent = priceOf(match);
  part(".chance span").append(...chance(match).map(inSpan));
  part("meter").hidden = match.probability === null;
  part("meter").value = match.probability ?? 0;
  part("meter").setAttribute("aria-hidden", "true"); // the words beside it say the same
  const [mark, words] = part(".moved").children;
  const [arrow, text, up] = ranked ? moved(match.stage1_rank, match.rank) : ["", `stage one #${match.stage1_rank}`, false];
  mark.textContent = arrow;
  mark.classList.toggle("up", up);
  words.textContent = text;
  part(".also").textContent = also(match);
  opinion(part(".opinion"), answer, match);
  return item;
}

function inSpan(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span;
}

// Other photos of the product, and items with nearly the same photo, by name.
function also({ views = [], duplicates = [] }) {
  const said = [];
  if (views?.length) said.push(count(views.length + 1, "photo"));
  if (duplicates?.length) said.push(`nearly the same as ${duplicates.map(({ id }) => id).join(", ")}`);
  return said.join(" · ");
}
