// What is said of attributes: in which photo and item are alike, and in which they differ.

import { make } from "./elements.js";
import { spoken } from "./words.js";

const SURE = 0.6; // probability of a value from which it is said
const SAME = 0.8, OTHER = 0.4; // cosines that are called so where the model knows no names of values
const NONE = "none"; // the value of what is not there, such as a garment's collar
const ALIKE = 3, DIFFERENT = 2; // attributes that a sentence names
const FIRST = ["neckline", "pattern", "sleeves", "color", "length", "collar", "closure", "category"]; // what people ask for
const UPPER = ["neckline", "sleeves", "collar"]; // of garments for the upper body
const NOT_UPPER = ["trousers", "shorts", "skirt", "footwear", "bag", "hat", "scarf"];

// Whether a garment of a kind, as the service names it, can have an attribute.
export const fits = (kind, name) => !(NOT_UPPER.includes(kind) && UPPER.includes(name));

// Attributes in the order in which people ask for them; those of a model of one's own follow.
export function ordered(attributes) {
  const place = ({ name }) => { const at = FIRST.indexOf(name); return at < 0 ? FIRST.length : at; };
  return [...attributes].sort((one, other) => place(one) - place(other));
}

// One attribute of an answer in words.
//   same    whether photo and item are alike in it; null where the model is not sure
//   value   what the item shows, "" where that is not known
//   both    whether neither has it: the same, and not worth a word
export function trait({ name, similarity, predicted_query: mine, predicted_item: theirs }) {
  const named = mine && theirs, sure = named && Math.min(mine.probability, theirs.probability) >= SURE;
  const same = named ? (sure ? mine.value === theirs.value : null) : similarity >= SAME ? true : similarity < OTHER ? false : null;
  return {
    name: spoken(name), same, value: theirs ? spoken(theirs.value) : "", mine: mine ? spoken(mine.value) : "",
    absent: Boolean(sure && same && theirs.value === NONE), similarity,
  };
}

// The same in a few words: "v, as in your photo".
export function compared({ same, value, mine }) {
  if (same) return value ? `${value}, as in your photo` : "as in your photo";
  if (same === null) return value ? `perhaps ${value}` : "hard to tell";
  return value ? `${value}, not ${mine}` : "another one";
}

// A sign before it: alike, different, or hard to tell.
export const sign = ({ same }) => make("span", { className: same ? "sign same" : "sign", textContent: same ? "✓" : same === null ? "?" : "≠" });

// How far asking for an attribute moved a match: ["▲ 4", "moved up 4 places"]; empty texts where it did not.
export function shift(places) {
  if (!places) return ["", ""];
  const far = Math.abs(places), up = places > 0;
  return [`${up ? "▲" : "▼"} ${far}`, `moved ${up ? "up" : "down"} ${far} ${far === 1 ? "place" : "places"} by it`];
}

// What photo and item share and what not, in one sentence; `asked` are the names of attributes that come first.
export function shared(attributes, asked) {
  const told = ordered(attributes).map((one) => ({ first: asked.includes(one.name), ...trait(one) })).sort((one, other) => other.first - one.first);
  const said = (same, most) => told.filter((one) => one.same === same && !one.absent).slice(0, most);
  const alike = said(true, ALIKE).map(({ name, value }) => (value ? `${name} (${value})` : name));
  const other = said(false, DIFFERENT).map(({ name, value, mine }) => (value ? `${name} (${value}, not ${mine})` : name));
  if (alike.length && other.length) return `The same ${listed(alike)}; different: ${listed(other)}.`;
  return alike.length ? `The same ${listed(alike)}.` : other.length ? `Different: ${listed(other)}.` : "";
}

export const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);
