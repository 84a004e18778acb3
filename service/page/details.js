// The switch for what is technical: percentages, ranks, times, scores. The browser remembers it.

import { byId } from "./elements.js";

const KEY = "threadmatch-details";
const field = byId("details");

function apply() {
  document.body.classList.toggle("details", field.checked);
}

export const shown = () => field.checked;

// Begin as it was left; `changed` is called when it is switched.
export function enter(changed) {
  try { field.checked = localStorage.getItem(KEY) === "yes"; } catch { /* a strict browser: off */ }
  apply();
  field.addEventListener("change", () => {
    try { localStorage.setItem(KEY, field.checked ? "yes" : "no"); } catch { /* for this page only, then */ }
    apply();
    changed();
  });
}
