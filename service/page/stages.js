// Two orders of the same search side by side, with a line for every item that both show: stage one and the reranked one or,
// where attributes are asked for, the order without them and with them.

import { inGallery } from "./api.js";
import { byId, make, shape } from "./elements.js";
import { capital, nameOf, sureness } from "./words.js";

// Draw both orders. `same` is what the matches must be like above all, in words, "" where nothing; `open(answer, at)` is
// called for the match that the user picks.
export function draw(first, reranked, { byProduct, same, open }) {
  byId("stages-first").textContent = same ? "Without that" : "Stage one: overall look";
  byId("stages-last").textContent = same ? capital(`${same} above all`) : "Reranked: part by part";
  const [left, right] = byId("stages").querySelectorAll("ol"), lines = byId("stages").querySelector("svg");
  const keyOf = (match) => (byProduct && match.product_id) || match.id;
  const places = (matches) => new Map(matches.map((match, at) => [keyOf(match), at]));
  const before = places(first.matches), after = places(reranked.matches);
  const rows = Math.max(first.matches.length, reranked.matches.length);
  lines.setAttribute("viewBox", `0 0 100 ${rows}`);
  lines.style.height = `calc(${rows} * var(--lane))`;

  left.replaceChildren(...first.matches.map((match, at) => {
    const key = keyOf(match), there = after.get(key);
    const note = there === undefined ? `not in the first ${reranked.matches.length}` : "";
    return row(match, { key, place: at + 1, note, gone: there === undefined, open: () => (there === undefined ? open(first, at) : open(reranked, there)) });
  }));
  right.replaceChildren(...reranked.matches.map((match, at) => {
    const key = keyOf(match);
    return row(match, { key, place: at + 1, note: `${sureness(match)} · ${came(before.get(key), at, match)}`, open: () => open(reranked, at) });
  }));
  lines.replaceChildren(...reranked.matches.map((match, at) => line(before.get(keyOf(match)), at, keyOf(match))));
}

for (const event of ["pointerover", "focusin"]) {
  byId("stages").addEventListener(event, ({ target }) => light(target.closest("[data-key]")?.dataset.key));
}
byId("stages").addEventListener("pointerleave", () => light());

// Where a reranked item came from, in words.
function came(from, at, match) {
  if (from === undefined) return `▲ from #${match.plain_rank ?? match.stage1_rank}`;
  if (from === at) return "same place";
  return from > at ? `▲ ${from - at} up` : `▼ ${at - from} down`;
}

function row(match, { key, place, note, gone = false, open }) {
  const item = make("li"), button = make("button"), image = make("img");
  const rank = make("b"), name = make("span"), words = make("small");
  item.dataset.key = key;
  item.classList.toggle("gone", gone);
  button.type = "button";
  Object.assign(image, { src: inGallery(match.image_url), alt: "", loading: "lazy" });
  rank.textContent = place;
  name.textContent = nameOf(match);
  words.textContent = note;
  button.append(rank, image, name, words);
  button.addEventListener("click", open);
  item.append(button);
  return item;
}

// From place to place; what came from further below than the list shows has a short line from below.
function line(from, at, key) {
  const far = from === undefined, kind = far || from > at ? "up" : from < at ? "down" : "same", y = at + 0.5;
  const d = far ? `M60 ${y + 0.45} C75 ${y + 0.45} 80 ${y} 100 ${y}` : `M0 ${from + 0.5} C50 ${from + 0.5} 50 ${y} 100 ${y}`;
  const path = shape("path", { d, class: far ? `${kind} far` : kind });
  path.dataset.key = key;
  return path;
}

function light(key) {
  for (const each of byId("stages").querySelectorAll("[data-key]")) each.classList.toggle("lit", key !== undefined && each.dataset.key === key);
}
