// The last searches of this browser: kept in its own database, nowhere else, until they are cleared or push each other out.

import { byId, make } from "./elements.js";

const MOST = 10;
const NAME = "threadmatch", STORE = "searches";
const THUMB_PX = 240;

let opening = null;

// The database, or null where the browser has none to give (a private window, a strict setting).
function database() {
  opening ??= new Promise((resolve) => {
    let request;
    try { request = indexedDB.open(NAME, 1); } catch { resolve(null); return; }
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
    request.onsuccess = () => {
      request.result.onclose = () => { opening = null; }; // its data were cleared: open it anew
      resolve(request.result);
    };
    request.onerror = request.onblocked = () => resolve(null);
  });
  return opening;
}

async function run(mode, work) {
  const open = await database();
  if (!open) return null;
  return new Promise((resolve) => {
    const transaction = open.transaction(STORE, mode), request = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => resolve(null); // full, say: a help is missing, nothing else
  });
}

// Newest first: {key, id, gallery, name, file, thumb, at}.
export async function all() {
  return ((await run("readonly", (store) => store.getAll())) ?? []).sort((one, other) => other.at - one.at);
}

export const find = async (id) => (await all()).find((one) => one.id === id);

// Keep a photo under the id of its search; the oldest beyond MOST go.
export async function keep(photo, id, gallery) {
  const at = Date.now();
  photo.thumb ??= await drawn(photo);
  await run("readwrite", (store) => store.put({ key: photo.key, id, gallery, name: photo.name, file: photo.file, thumb: photo.thumb, at }));
  for (const { key } of (await all()).slice(MOST)) await run("readwrite", (store) => store.delete(key));
}

export const clear = () => run("readwrite", (store) => store.clear());

// Draw the strip of this gallery's; `open(entry)` is called for the one that the user takes.
export async function show(gallery, open) {
  const entries = (await all()).filter((one) => one.gallery === gallery && one.thumb);
  byId("recent").hidden = !entries.length;
  byId("start-title").textContent = entries.length ? "Or try one of these" : "Try one of these";
  byId("recent").querySelector("ul").replaceChildren(...entries.map((entry) => {
    const item = make("li"), button = make("button", { type: "button" });
    const when = new Date(entry.at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    button.append(make("img", { src: entry.thumb, alt: `Search of ${when}` }));
    button.addEventListener("click", () => open(entry));
    item.append(button);
    return item;
  }));
}

// A small picture of a photo, as a data address; null where the browser cannot read it.
async function drawn({ file, size }) {
  const { width, height } = await size ?? {}; // null: it could not be shown either
  if (!width) return null;
  const scale = Math.min(1, THUMB_PX / Math.max(width, height));
  const [wide, tall] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const bitmap = await createImageBitmap(file, { resizeWidth: wide, resizeHeight: tall, resizeQuality: "medium" }).catch(() => null); // beside the page's own work
  if (!bitmap) return null;
  const canvas = make("canvas", { width: wide, height: tall });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.8);
}
