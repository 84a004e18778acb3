// The link that opens the same search again.

import { byId, make } from "./elements.js";

const SAID_MS = 4000;
let saying = 0; // timer

export function enter() {
  byId("link").addEventListener("click", async () => {
    const copied = await copy(location.href);
    byId("link").textContent = copied ? "Link copied" : "Copy the address above";
    byId("status").textContent = "The link opens this search for some minutes, while the service keeps the photo.";
    clearTimeout(saying);
    saying = setTimeout(() => { byId("link").textContent = "Copy link"; }, SAID_MS);
  });
}

// Browsers hand out the clipboard on https and on this machine only; elsewhere the old way may still work.
async function copy(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way, then */ }
  const field = make("textarea", { value: text, className: "unseen" });
  document.body.append(field);
  field.select();
  try { return document.execCommand("copy"); } finally { field.remove(); byId("link").focus(); }
}
