// The page's own address: it names the search that is shown, so that a reload or a link opens the same one again.
//
//   search   request id of the photo's first search: the service keeps that photo for some minutes
//   part     what of the photo is searched: nothing for the garment found, "none" for all, or edges in thousandths
//   only     the filters, as `state` of filters.js
//   alike    names of attributes, as `state` of alike.js; with `any` they alone decide

const PARTS = ["search", "part", "only", "alike", "any"];

// {id, target, only, alike} as the address says; null where it names no search.
export function read() {
  const given = new URLSearchParams(location.search), id = given.get("search");
  if (!id) return null;
  const alike = { names: (given.get("alike") ?? "").split(",").filter(Boolean), alone: given.has("any") };
  return { id, target: target(given.get("part")), only: parsed(given.get("only")), alike };
}

// Name a search; a new photo is a step that the browser's back button undoes.
export function write({ id, target: asked, only, alike }, { step = false } = {}) {
  const address = new URL(location.href);
  for (const part of PARTS) address.searchParams.delete(part);
  if (id) {
    address.searchParams.set("search", id);
    if (asked !== "auto") address.searchParams.set("part", typeof asked === "string" ? asked : thousandths(asked));
    if (Object.keys(only).length) address.searchParams.set("only", JSON.stringify(only));
    if (alike.names.length) address.searchParams.set("alike", alike.names.join(","));
    if (alike.alone) address.searchParams.set("any", "");
  }
  if (address.href === location.href) return;
  history[step ? "pushState" : "replaceState"](null, "", address);
}

const thousandths = ({ x0, y0, x1, y1 }) => [x0, y0, x1, y1].map((edge) => Math.round(1000 * edge)).join(",");

function target(part) {
  if (part === "none") return part;
  const edges = (part ?? "").split(",").map((edge) => Number(edge) / 1000);
  if (edges.length !== 4 || !edges.every((edge) => edge >= 0 && edge <= 1)) return "auto";
  const [x0, y0, x1, y1] = edges;
  return x0 < x1 && y0 < y1 ? { x0, y0, x1, y1 } : "auto";
}

function parsed(text) {
  try {
    const only = JSON.parse(text ?? "{}");
    return only && typeof only === "object" && !Array.isArray(only) ? only : {};
  } catch { return {}; }
}
