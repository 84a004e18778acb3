// Questions to the service. What goes wrong is thrown as a Problem: an error in words.

import { AWAY, SILENCE, problem } from "./words.js";

let gallery = ""; // by name; "" is the one that the service takes by itself
let signIn = async () => false; // asks the user for a key; true once there is one

export class Problem extends Error {
  // words: as `problem` in words.js gives them. status: of the answer, 0 without one. waitS: seconds before another try.
  constructor(words, { status = 0, waitS = 0 } = {}) {
    super(words.detail);
    Object.assign(this, { words, status, waitS });
  }
}

export const chooseGallery = (name) => { gallery = name; };
export const chosenGallery = () => gallery;
export const onSignIn = (ask) => { signIn = ask; };

// An address of the service, in the chosen gallery.
export function inGallery(address) {
  const url = new URL(address, location.origin);
  if (gallery && !url.searchParams.has("gallery")) url.searchParams.set("gallery", gallery);
  return url.pathname + url.search;
}

// A path of the service as an address that the browser can load by itself.
export const linked = (path) => inGallery(own(path));

// The answer to one request, as JSON (or as a Blob).
//   method, json, form   what to send; only a GET names the chosen gallery by itself
//   signal               ends it: AbortError
//   sent                 called with the share of the body that has left, 0 to 1
export async function ask(path, options = {}) {
  const answer = await once(path, options);
  if (answer.status === 401 && options.signIn !== false && await signIn()) return read(await once(path, options), options);
  return read(answer, options);
}

// Where a proxy shows the service: "" or "/shop".
const HERE = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

// The path of an address of the service, with that prefix once: links in answers have it already, or are whole addresses.
function own(address) {
  const { pathname, search } = new URL(address, location.origin), path = pathname + search;
  return path.startsWith(`${HERE}/`) ? path : HERE + path;
}

// XMLHttpRequest, for fetch cannot tell how much of a photo has been sent.
function once(path, { method = "GET", json, form, signal, sent, as = "json" }) {
  const request = new XMLHttpRequest(), givenUp = () => new DOMException("given up", "AbortError");
  if (signal?.aborted) return Promise.reject(givenUp()); // while the user signed in
  const done = new Promise((resolve, reject) => {
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Problem(navigator.onLine ? SILENCE : AWAY));
    request.onabort = () => reject(givenUp());
  });
  request.open(method, method === "GET" ? inGallery(own(path)) : own(path));
  request.responseType = as === "blob" ? "blob" : "text";
  if (sent) request.upload.onprogress = (event) => { if (event.lengthComputable) sent(event.loaded / event.total); };
  if (json) request.setRequestHeader("Content-Type", "application/json");
  signal?.addEventListener("abort", () => request.abort());
  request.send(json ? JSON.stringify(json) : form);
  return done;
}

async function read(request, { as = "json" }) {
  const { status, response } = request, good = status >= 200 && status < 300;
  if (good && as === "blob") return response;
  const text = response instanceof Blob ? await response.text() : response;
  let answer = null;
  try { answer = text ? JSON.parse(text) : null; } catch { /* not the service's answer */ }
  if (good && (answer !== null || status === 204 || !text)) return answer;
  const waitS = Math.min(60, Math.ceil(Number(request.getResponseHeader("Retry-After")) || 0));
  throw new Problem(problem(status, answer, waitS), { status, waitS });
}
