// How the search is going, in words: at work, failed, or waiting to try again.

import { Problem } from "./api.js";
import { byId } from "./elements.js";
import { count } from "./words.js";

const SLOW_MS = 4000; // after this the page says that it is still at work
const OWN_TRIES = 4; // times that the page tries again by itself while the service is busy

let tries = 0; // of the page by itself
let ticking = 0, slow = 0; // timers

// A new search begins; `again` where the page itself tries once more.
export function still(again) {
  clearInterval(ticking);
  if (!again) tries = 0;
}

// Whether an error is shown.
export const hushed = () => !byId("error").hidden;

// How much of the photo has been sent.
export function sent(share) {
  if (share < 1) byId("progress").value = share; else byId("progress").removeAttribute("value");
  byId("status").textContent = share < 1 ? "Sending the photo …" : "Looking for the garment …";
}

export function working(busy) {
  clearTimeout(slow);
  byId("progress").hidden = !busy;
  byId("progress").removeAttribute("value");
  byId("results").classList.toggle("waiting", busy);
  for (const id of ["matches", "stages"]) byId(id).inert = busy; // they are of what was searched before
  byId("results").setAttribute("aria-busy", busy);
  if (!busy) return;
  byId("error").hidden = byId("verdict").hidden = true;
  byId("status").textContent = "Looking for the garment …";
  slow = setTimeout(() => { byId("status").textContent = "Still comparing; a large gallery takes a little longer …"; }, SLOW_MS);
}

// Say what went wrong. `again` is called to try once more; title and detail are said in place of the error's own.
export function fail(error, { again, title, detail } = {}) {
  if (!(error instanceof Problem)) {
    if (error.name === "AbortError") return;
    throw error;
  }
  const [heading, words, id] = byId("error").children;
  heading.textContent = title ?? error.words.title;
  words.textContent = detail ?? error.words.detail;
  id.textContent = title ? "" : error.words.small;
  byId("results").hidden = false;
  byId("again").hidden = !again || !error.words.again;
  byId("status").textContent = byId("timings").textContent = "";
  byId("results-title").textContent = "Matches";
  for (const part of ["view", "verdict", "matches", "stages"]) byId(part).hidden = true;
  byId("matches").replaceChildren();
  byId("error").hidden = false;
  byId("countdown").hidden = true;
  if (error.status === 429 && again) wait(error.waitS || 1, again);
  if (byId("error").getBoundingClientRect().bottom > innerHeight) byId("error").scrollIntoView({ block: "center" });
}

// The service is busy: count down, then try again by itself, a few times.
function wait(seconds, again) {
  if (++tries > OWN_TRIES) return;
  let left = seconds * tries; // a little longer each time
  const say = () => { byId("countdown").textContent = `Trying again in ${count(left, "second")} …`; };
  say();
  byId("countdown").hidden = false;
  ticking = setInterval(() => {
    left -= 1;
    say();
    if (left <= 0) { clearInterval(ticking); again(); }
  }, 1000);
}
