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

async function drawn({ url }) {
  const image = Object.assign(new Image(), { src: url });
  try { await image.decode(); } catch { return null; }
  const { naturalWidth: width, naturalHeight: height } = image, scale = Math.min(1, THUMB_PX / Math.max(width, height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8);
}
