// What the page says: numbers, places and errors in plain words.

const CHANCES = [[0.9, "Very likely"], [0.7, "Likely"], [0.4, "Possible"], [0.15, "Unlikely"], [0, "Very unlikely"]];
export const LIKELY = 0.4; // below it the page says that no item is likely

const TITLES = {
  InvalidImage: "This photo cannot be used",
  TooLarge: "This file is too large",
  UploadTimeout: "The photo took too long to arrive",
  Filter: "The condition on a column does not work",
  InvalidField: "A search option does not fit",
  Overloaded: "The service is busy",
  SearchTimeout: "The search took too long",
  NotReady: "The service is still starting",
  Stopped: "The service is restarting",
  ModelFailed: "The comparison failed",
};

export function chance(probability) {
  const [, words] = CHANCES.find(([least]) => probability >= least);
  return `${words} · ${percent(probability)}`;
}

export const percent = (share) => `${share > 0 && share < 0.1 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;

// The first of these metadata columns that the item has, whatever its capitals.
function column(match, names) {
  for (const name of names) {
    const key = Object.keys(match.metadata).find((each) => each.toLowerCase() === name);
    if (key && match.metadata[key] !== null && match.metadata[key] !== "") return match.metadata[key];
  }
  return undefined;
}

export const nameOf = (match) => String(column(match, ["name", "title", "product_name"]) ?? match.product_id ?? match.id);

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

// How an item moved between the stages: [mark, words, did it rise].
export function moved(match) {
  const places = match.stage1_rank - match.rank;
  if (places === 0) return ["=", " same place in stage one", false];
  return [places > 0 ? "▲" : "▼", ` ${Math.abs(places)} ${places > 0 ? "up" : "down"}, stage one #${match.stage1_rank}`, places > 0];
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

// An error answer as {title, detail, small, again}; `again` says whether trying the same once more can help.
export function problem(response, answer) {
  if (!answer || typeof answer.detail !== "string") {
    return {
      title: "The answer could not be read",
      detail: `Something between this page and the service answered with status ${response.status}. Please try again.`,
      small: "", again: true,
    };
  }
  const seconds = response.headers.get("Retry-After");
  const detail = answer.detail + (/[.!?]$/.test(answer.detail) ? "" : ".");
  return {
    title: TITLES[answer.error] ?? "The search failed",
    detail: seconds ? `${detail} Please try again in ${seconds} s.` : detail,
    small: `For support: ${answer.error}, request ${answer.request_id}`,
    again: response.status >= 500 || response.status === 429 || response.status === 408,
  };
}

export const SILENCE = {
  title: "The service did not answer",
  detail: "Check your connection, then try again. A file of many megabytes may have been refused while it was sent.",
  small: "", again: true,
};
