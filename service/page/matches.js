// The matches as cards, and what is said of the answer as a whole.

import { inGallery } from "./api.js";
import { lay, map, pointed } from "./attention.js";
import { byId, make } from "./elements.js";
import { opinion } from "./feedback.js";
import { compared, shift, sign, trait } from "./traits.js";
import { availabilityOf, chance, count, likely, linkOf, moved, nameOf, priceOf, timings } from "./words.js";

const CARD = 4 / 5; // width over height of a card's photo
const NEAR = 0.25; // logarithm of how far a photo's own shape may be from that and still fill it
const LONG_MS = 450; // a finger that rests so long has not tapped

// Show an answer; `open(at)` is called for the match that the user picks, `look(name)` to show where in the photo an
// attribute is seen, and with null when that is over.
export function draw(answer, { open, look }) {
  const ranked = comparable(answer);
  byId("matches").replaceChildren(...answer.matches.map((match, at) => card(answer, match, { ranked, look, open: () => open(at) })));
}

// Whether places in stage one and in the answer count the same things: not where items are folded into others.
export const comparable = ({ matches }) => !matches.some(({ views, duplicates }) => views?.length || duplicates?.length);

// Say how the search went, and plainly when nothing fits.
//   garment   name of what was searched, where it is known
//   same      what the matches must be like above all, in words; "" where nothing
//   alone     whether that alone decides
export function tell(answer, { filtered, garment, same, alone }) {
  const { matches, candidates, gallery, no_match: none, no_match_reason: why } = answer, best = matches[0];
  byId("results-title").textContent = garment ? `${garment} found` : "Matches";
  const anything = alone && best && why === "improbable"; // nobody asks for the garment itself
  const found = matches.length === 1 ? "One match in the catalogue" : `The ${matches.length} closest in the catalogue`;
  const order = same && (alone ? `, by ${same} alone` : `, ${same} above all`);
  byId("status").textContent = !best || (none && !anything) ? "" : `${found}${order}.`;
  byId("timings").textContent = `${count(candidates, "item")} compared closely · ${timings(answer.timings_ms)} · ${count(gallery.items, "item")}, generation ${gallery.generation}`;
  const [heading, words] = byId("verdict").children;
  byId("verdict").hidden = !none || anything;
  if (!none || anything) return;
  const below = best ? " The closest items are below." : "";
  if (why === "no_garment") {
    heading.textContent = "No garment in this photo";
    words.textContent = `If there is one after all, frame it on the photo.${below}`;
  } else if (best) {
    heading.textContent = "Probably not in this catalogue";
    words.textContent = `Nothing here is likely to be the garment.${below} Choosing another garment, or framing it more closely, can help.`;
  } else if (filtered) {
    heading.textContent = "No match";
    words.textContent = "Nothing in the catalogue meets these filters and options. Remove a filter, or loosen the search options.";
  } else {
    heading.textContent = "No match";
    words.textContent = why === "empty_gallery" ? "The catalogue is empty." : "Nothing in the catalogue is likely enough. Frame the garment more closely, or loosen the search options.";
  }
}

// The words above a match's name: the first of an answer that has one is the best. Where attributes decide it need not be.
export const kindOf = (answer, match) => (match.rank === 1 && !answer.no_match && (!match.attributes || likely(match)) ? "Best match" : "Similar");

// Price and availability as far as the catalogue has them.
export function offer(place, match) {
  const price = priceOf(match), [words, there] = availabilityOf(match) ?? [];
  place.replaceChildren(...[[price, ""], [words, there ? "quiet" : "gone"]].filter(([text]) => text).map(([text, kind]) => inSpan(text, kind)));
}

function card(answer, match, { ranked, open, look }) {
  const item = byId("match").content.cloneNode(true).firstElementChild;
  const part = (selector) => item.querySelector(selector), image = part("img"), link = linkOf(match);
  image.addEventListener("load", () => image.classList.toggle("fills", Math.abs(Math.log(image.naturalWidth / image.naturalHeight / CARD)) < NEAR));
  image.addEventListener("error", () => { image.alt = "photo not available"; });
  image.src = inGallery(match.image_url);
  part(".kind").textContent = kindOf(answer, match);
  part(".kind").classList.toggle("best", kindOf(answer, match) === "Best match");
  part(".open").textContent = nameOf(match);
  part(".open").addEventListener("click", open);
  offer(part(".offer"), match);
  part(".alike").replaceChildren(...(match.attributes ?? []).map((own) => tag(answer, match, own, { photo: part(".photo"), look })));
  part(".shop").hidden = !link;
  if (link) { part(".shop").href = link; part(".shop").setAttribute("aria-label", `View ${nameOf(match)} in the shop, in a new tab`); }
  part(".chance span").append(...chance(match).map((text) => inSpan(text)));
  part("meter").hidden = match.probability === null;
  part("meter").value = match.probability ?? 0;
  part("meter").setAttribute("aria-hidden", "true"); // the words beside it say the same
  const [mark, words] = part(".moved").children;
  const [arrow, text, up] = ranked ? moved(match.stage1_rank, match.rank) : ["", `stage one #${match.stage1_rank}`, false];
  mark.textContent = arrow;
  mark.classList.toggle("up", up);
  words.textContent = text;
  part(".also").textContent = match.views?.length ? count(match.views.length + 1, "photo") : "";
  opinion(part(".opinion"), answer, match);
  heldDown(item);
  return item;
}

// One attribute that was asked for, on a card: what the item shows, and how far it moved. Where it is seen is shown in
// both photos.
function tag(answer, match, own, { photo, look }) {
  const told = trait(own), [arrow, far] = shift(own.moved), button = make("button", { type: "button", className: "trait", title: "Shows where it is seen" });
  button.append(sign(told), inSpan(told.value ? `${told.name}: ${told.value}` : told.name), inSpan(arrow, own.moved > 0 ? "up" : "down"));
  button.setAttribute("aria-label", [`${told.name}: ${compared(told)}`, far].filter(Boolean).join("; "));
  const show = () => { lay(photo, map(answer, match, own.name, "item"), { kind: photo.querySelector("img").className }); look(own.name); };
  pointed(button, { show, hide: () => { lay(photo, ""); look(null); }, hold: true });
  return button;
}

// A finger that rests on a card asks what the user thinks of it.
function heldDown(item) {
  let waiting = 0, held = false;
  item.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    held = false;
    waiting = setTimeout(() => {
      held = true;
      for (const other of byId("matches").children) other.classList.toggle("asked", other === item);
    }, LONG_MS);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) item.addEventListener(end, () => clearTimeout(waiting));
  item.addEventListener("contextmenu", (event) => { if (held) event.preventDefault(); });
  item.addEventListener("click", (event) => { if (held) { held = false; event.preventDefault(); event.stopPropagation(); } }, { capture: true });
}

function inSpan(text, kind = "") {
  return make("span", { textContent: text, className: kind });
}
