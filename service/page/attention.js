// Where an attribute is seen: a heat map over a photo while something points at it.

import { linked } from "./api.js";

const REST_MS = 150; // a pointer that only passes asks the service nothing
let held = null; // lets go of what was pressed to go on showing

// The address of an attribute's map over one side, "query" or "item", of a match of a search.
export function map(answer, match, attribute, side) {
  const asked = new URLSearchParams({ method: "attention", attribute, side, ground: "clear" });
  return linked(`/v1/search/${encodeURIComponent(answer.request_id)}/matches/${encodeURIComponent(match.id)}/heatmap.png?${asked}`);
}

// Call show() while `element` is pointed at or has the keyboard's focus, then hide(); with `hold` a press keeps it.
export function pointed(element, { show, hide, hold = false }) {
  let resting = 0, shown = false, pressed = false;
  const begin = () => {
    clearTimeout(resting);
    resting = setTimeout(() => {
      if (!pressed) held?.();
      shown = true;
      show();
    }, REST_MS);
  };
  const end = () => {
    clearTimeout(resting);
    if (shown && !pressed) { shown = false; hide(); }
  };
  const press = (on) => {
    held = on ? () => { press(false); end(); } : null;
    pressed = on;
    element.setAttribute("aria-pressed", on);
  };
  element.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") begin(); });
  element.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") end(); });
  element.addEventListener("focus", () => { if (element.matches(":focus-visible")) begin(); });
  element.addEventListener("blur", end);
  if (!hold) return;
  element.setAttribute("aria-pressed", false);
  element.addEventListener("click", () => {
    if (pressed) { press(false); end(); return; }
    held?.();
    press(true);
    clearTimeout(resting);
    shown = true;
    show();
  });
}

// Where the searched part of a photo lies in it, as a style.
export function onPart({ width, height, box: [x0, y0, x1, y1] }) {
  const share = (pixels, whole) => `${100 * pixels / whole}%`;
  return { left: share(x0, width), top: share(y0, height), width: share(x1 - x0, width), height: share(y1 - y0, height) };
}

// Lay a map over a photo, in the element that holds both; "" takes it away.
//   style   places it on a part of the photo
//   kind    class that the photo has, for a map that is to be fitted as it is
export function lay(holder, address, { style = {}, kind = "" } = {}) {
  holder.querySelector(".heat")?.remove();
  if (!address) return;
  const layer = Object.assign(new Image(), { className: `heat ${kind}`, alt: "" });
  Object.assign(layer.style, style);
  layer.addEventListener("error", () => layer.remove()); // the service remembers this search no more
  layer.src = address;
  holder.append(layer);
}
