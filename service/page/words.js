// What the page says: numbers, places and errors in plain words.

// How sure a match is, as words and number: ["Likely", "78 %"]. A model that was never calibrated has scores only.
export function chance({ probability, confidence, score, distance }) {
  if (score === null) return ["Distance", distance.toFixed(3)];
  if (probability === null) return ["Score", score.toFixed(2)];
  return [confidence ? capital(confidence) : "Probability", percent(probability)];
}

export const likely = ({ confidence }) => ["likely", "very likely"].includes(confidence);

// The same in one number.
export const sureness = (match) => (match.probability === null ? chance(match).join(" ") : percent(match.probability));

export const percent = (share) => `${share > 0 && share < 0.1 ? (100 * share).toFixed(1) : Math.round(100 * share)}\u202f%`;
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;
export const spoken = (column) => column.replaceAll("_", " ");
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

// What the service calls the kinds of garments, as people do; a detector of one's own has its own words.
const GARMENTS = {
  top: "Top", outerwear: "Coat or jacket", dress_or_jumpsuit: "Dress", skirt: "Skirt", trousers: "Trousers", shorts: "Shorts",
  footwear: "Shoes", bag: "Bag", hat: "Hat", scarf: "Scarf",
};
export const garmentName = (kind) => GARMENTS[kind] ?? (kind ? capital(spoken(kind)) : "Garment");

// The first of these metadata columns that the item has, whatever its capitals.
function column(match, names) {
  for (const name of names) {
    const key = Object.keys(match.metadata).find((each) => each.toLowerCase() === name);
    if (key && match.metadata[key] !== null && match.metadata[key] !== "") return match.metadata[key];
  }
  return undefined;
}

export const nameOf = (match) => String(column(match, ["name", "title", "product_name", "category"]) ?? match.product_id ?? match.id);

export function priceOf(match) {
  const price = column(match, ["price", "sale_price"]);
  if (typeof price !== "number") return String(price ?? "");
  const currency = column(match, ["currency", "price_currency"]);
  try {
    return new Intl.NumberFormat(undefined, { style: "currency", currency }).format(price);
  } catch { // no currency, or none that the browser knows
    return price.toFixed(2);
  }
}

// Whether it can be had, [words, can it]; undefined where the catalogue does not say.
export function availabilityOf(match) {
  const value = column(match, ["availability", "in_stock", "available", "stock"]);
  if (value === undefined) return undefined;
  if (typeof value === "boolean" || typeof value === "number") return value ? ["In stock", true] : ["Out of stock", false];
  const words = capital(spoken(String(value)));
  return [words, !/^(out|sold|unavailable|no\b|discontinued)/i.test(words)];
}

// The item's page in the shop; undefined where there is none, or what stands there is no address of the web.
export function linkOf(match) {
  const value = column(match, ["url", "link", "product_url", "product_link"]);
  return typeof value === "string" && URL.canParse(value) && /^https?:$/.test(new URL(value).protocol) ? value : undefined;
}

const SHOWN_ALREADY = ["name", "title", "product_name", "price", "sale_price", "currency", "price_currency", "url", "link", "product_url", "product_link",
  "availability", "in_stock", "available", "stock"];
// What else the catalogue says: [name, text] pairs.
export function factsOf(match) {
  return Object.entries({ ...match.metadata, id: match.id, product: match.product_id })
    .filter(([key, value]) => value !== null && value !== "" && value !== undefined && !SHOWN_ALREADY.includes(key.toLowerCase()))
    .map(([key, value]) => [spoken(key), Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value)]);
}

// What decided a match in one sentence, from the pairs of regions, heaviest first, and the boxes that hold them.
//   garment   name of what was searched, or ""
//   sure      whether the match is a likely one
export function sentence(pairs, query, item, { garment, sure }) {
  if (!pairs.length) return "";
  const mine = garment ? `your ${garment.toLowerCase()}` : "your photo", verb = sure ? "matches" : "comes closest to";
  if (pairs[0].weight < SPREAD * pairs.at(-1).weight) return `No single part stands out: ${mine} and this item are compared as a whole.`;
  const where = pairs.map((pair) => [place(pair.query_box, query.box), place(pair.item_box, item.box)]);
  const [[here, there]] = where, other = where.find(([one, two]) => one !== here && two !== there);
  if (here !== there) return `${capital(part(here))} of ${mine} ${verb} ${part(there)} of this item.`;
  if (!other || other[0] !== other[1]) return `${capital(part(here))} of ${mine} ${verb} the same part of this item.`;
  return `${capital(part(here))} and ${part(other[0])} of ${mine} ${sure ? "match" : "come closest to"} the same parts of this item.`;
}

export const SPREAD = 1.05; // heaviest over lightest weight; below it no pair stands out
const part = (where) => (where === "all of it" ? "the whole" : where === "centre" ? "the middle" : `the ${where.replace("centre", "middle")}`);

// How an item moved between the stages, from place to place: [mark, words, did it rise].
export function moved(before, after) {
  const places = before - after;
  if (places === 0) return ["=", " as in stage one", false];
  return [places > 0 ? "▲" : "▼", ` ${Math.abs(places)} ${places > 0 ? "up" : "down"}, stage one #${before}`, places > 0];
}

// Where a box lies in a larger one: "upper left", "middle", "whole width, lower part", ...
export function place([x0, y0, x1, y1], [left, top, right, bottom]) {
  const wide = (x1 - x0) / (right - left) > 0.9, tall = (y1 - y0) / (bottom - top) > 0.9;
  const third = (middle, names) => names[middle < 0.4 ? 0 : middle > 0.6 ? 2 : 1];
  const across = third(((x0 + x1) / 2 - left) / (right - left), ["left", "centre", "right"]);
  const down = third(((y0 + y1) / 2 - top) / (bottom - top), ["upper", "middle", "lower"]);
  if (wide && tall) return "all of it";
  if (wide) return `${down} part`;
  if (tall) return across === "centre" ? "centre" : `${across} side`;
  return down === "middle" && across === "centre" ? "centre" : `${down} ${across}`;
}

export const timings = (times) => Object.entries(times)
  .map(([stage, ms]) => `${stage} ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`).join(" · ");

// What to say of an error: [title, what to do]. By the service's name for it first, then by status.
const ERRORS = {
  InvalidImage: ["This photo cannot be used", "Choose another one, or save it as JPEG first."],
  UploadTimeout: ["The photo took too long to arrive", "Try again where the connection is better."],
  Filter: ["A filter does not work", "Change or remove it."],
  SearchTimeout: ["The search took too long", "Try again, or compare fewer items closely (search options)."],
  NotReady: ["The service is still starting", "It can take a minute. Try again then."],
  Stopped: ["The service is restarting", "Try again in a moment."],
  ModelFailed: ["The comparison failed", "Try again. If it goes on failing, tell whoever runs this service."],
  UnknownGallery: ["This gallery is not open to you", "Choose another gallery, or sign in with a key for this one."],
  ItemNotFound: ["This item has left the gallery", "Search again to see what is there now."],
  RateLimited: ["Many searches in a short time", "Your key may make only so many; wait a little."],
  FeedbackOff: ["This service keeps no feedback", "Whoever runs it can turn that on."],
  401: ["You need to sign in", "Sign in with the key that you were given."],
  403: ["Your key does not allow this", "Ask whoever runs this service for a key that does, or sign in with another one."],
  404: ["This is not there any more", "It may have left the gallery, or your key may not use it. Search again."],
  408: ["The photo took too long to arrive", "Try again where the connection is better."],
  413: ["This file is too large", "Send a smaller photo; 1000 pixels on the long side are enough."],
  415: ["This kind of file is not taken", "Send a photo: JPEG, PNG or WebP."],
  422: ["Something in this search does not fit", "Check filters and search options."],
  429: ["The service is busy", "Many people are searching at this moment."],
  503: ["The service cannot answer now", "Try again in a moment."],
};

// An error answer as {title, detail, small, again}; `again` says whether trying the same once more can help.
export function problem(status, answer, waitS) {
  const [title, advice] = ERRORS[answer?.error] ?? ERRORS[status] ?? ["The search failed", "Try again. If it goes on failing, tell whoever runs this service."];
  const again = status >= 500 || status === 429 || status === 408 || status === 401;
  if (typeof answer?.detail !== "string") {
    return { title, detail: `${advice} (Something between this page and the service answered with status ${status}.)`, small: "", again };
  }
  const found = answer.detail + (/[.!?]$/.test(answer.detail) ? "" : ".");
  // What is said of a busy or failing service is for its operator; what is said of the user's input is for the user.
  const detail = status === 422 ? `${found} ${advice}` : status === 413 ? found : advice;
  const small = `For support: ${answer.error}, request ${answer.request_id}${detail === advice ? `; ${found}` : ""}`;
  return { title, detail: waitS && status !== 429 ? `${detail} It asks to wait ${count(waitS, "second")}.` : detail, small, again };
}

export const SILENCE = {
  title: "The service did not answer",
  detail: "Check your connection, then try again. A file of many megabytes may have been refused while it was sent.",
  small: "", again: true,
};
export const AWAY = { title: "You are offline", detail: "The search goes on by itself when the connection is back.", small: "", again: true };
