// The search page: asks the service and shows what it answers.

import * as access from "./access.js";
import { Problem, ask, chosenGallery } from "./api.js";
import { Comparison } from "./compare.js";
import { takeFeedback } from "./feedback.js";
import * as filters from "./filters.js";
import { Frame } from "./frame.js";
import * as matches from "./matches.js";
import { display, listen, prepare } from "./photo.js";
import * as proposals from "./proposals.js";
import * as stages from "./stages.js";
import { count, nameOf } from "./words.js";

const byId = (id) => document.getElementById(id);
const SLOW_MS = 4000; // after this the page says that it is still at work
const REST_MS = 250; // changes of filters and options that follow each other this closely are one
const OWN_TRIES = 4; // times that the page tries again by itself while the service is busy
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

let photo = null; // as `prepare` gives it
let running = null; // AbortController of the search in progress
let looking = null; // AbortController of the look for garments in the photo
let answers = {}; // of the present photo, frame and options, by order: "reranked" and "first"
let tries = 0; // of the page by itself
let choices = 0; // photos chosen so far
let resting = 0, ticking = 0; // timers

const frame = new Frame({
  onChange: () => search(),
  onTap: (point) => { const edges = proposals.around(point); if (edges) take(edges); },
});
const comparison = new Comparison({
  searchWith: async (match) => {
    const blob = await ask(match.image_url, { as: "blob" }).catch(fail);
    if (blob) await choose(new File([blob], `${nameOf(match)}.jpg`, { type: "image/jpeg" }));
  },
  explain: (id) => {
    const form = fields("reranked");
    form.set("filter", `id == ${JSON.stringify(id)}`);
    for (const [name, value] of [["top_k", 1], ["candidates", 1], ["group_by", "item"]]) form.set(name, value);
    form.delete("min_probability");
    return ask("/v1/search", { method: "POST", form });
  },
});

const view = () => document.querySelector("input[name=view]:checked").value;
const byProduct = () => byId("group_by").checked;

function take(edges) {
  frame.set(edges);
  search();
}

async function choose(file) {
  const mine = ++choices, prepared = await prepare(file);
  if (mine !== choices) return; // another one was chosen meanwhile
  if (photo?.url) URL.revokeObjectURL(photo.url);
  photo = { ...prepared, name: file.name || "photo" };
  display(photo, photo.name);
  document.querySelector("label[for=photo]").textContent = "Another photo";
  frame.reset();
  byId("go").hidden = false;
  byId("steps").hidden = true;
  if (comparison.dialog.open) comparison.dialog.close();
  looking?.abort();
  looking = new AbortController();
  proposals.propose(photo, looking.signal, take);
  await search({ scroll: true });
}

function fields(order) {
  const body = new FormData();
  const number = (id) => Math.min(byId(id).max, Math.max(byId(id).min, Math.round(Number(byId(id).value) || 0)));
  const reranked = order === "reranked";
  body.append("image", photo.file, photo.name);
  body.append("top_k", number("top_k"));
  body.append("candidates", Math.max(number("candidates"), number("top_k")));
  body.append("rerank", reranked);
  body.append("explain", reranked);
  body.append("group_by", byProduct() ? "product" : "item");
  const box = photo.width && frame.inPixels(photo.width, photo.height), filter = filters.expression();
  if (chosenGallery()) body.append("gallery", chosenGallery());
  if (box) body.append("box", box);
  if (filter) body.append("filter", filter);
  if (reranked && number("min_probability")) body.append("min_probability", number("min_probability") / 100);
  return body;
}

// Search for the present photo, anew unless only the view has changed.
async function search({ anew = true, scroll = false, again = false } = {}) {
  if (!photo) return;
  running?.abort();
  clearInterval(ticking);
  if (!again) tries = 0;
  const mine = running = new AbortController();
  if (anew) answers = {};
  proposals.mark(frame.edges);
  filters.show(removed);
  const needed = (view() === "stages" ? ["reranked", "first"] : ["reranked"]).filter((order) => !answers[order]);
  if (needed.length) {
    working(true);
    const slow = setTimeout(() => { byId("status").textContent = "Still comparing; a large gallery takes a little longer …"; }, SLOW_MS);
    try {
      for (const order of needed) {
        answers[order] = await ask("/v1/search", { method: "POST", form: fields(order), signal: mine.signal, sent });
      }
    } catch (error) {
      if (running === mine) fail(error);
      return;
    } finally {
      clearTimeout(slow);
      if (running === mine) working(false);
    }
  }
  if (running !== mine) return;
  show();
  // On a phone the matches begin below the photo.
  const behavior = STILL.matches ? "instant" : "smooth";
  if (scroll && byId("results").getBoundingClientRect().top > innerHeight / 2) byId("results").scrollIntoView({ behavior });
}

// How much of the photo has been sent.
function sent(share) {
  if (share < 1) byId("progress").value = share; else byId("progress").removeAttribute("value");
  byId("status").textContent = share < 1 ? "Sending the photo …" : "Looking for the garment …";
}

function working(busy) {
  byId("progress").hidden = !busy;
  byId("progress").removeAttribute("value");
  byId("results").classList.toggle("waiting", busy);
  byId("results").setAttribute("aria-busy", busy);
  if (!busy) return;
  byId("error").hidden = byId("verdict").hidden = true;
  byId("status").textContent = "Looking for the garment …";
  byId("results-title").textContent = "Matches";
}

function fail(error) {
  if (!(error instanceof Problem)) {
    if (error.name === "AbortError") return;
    throw error;
  }
  const [heading, words, id] = byId("error").children, { title, detail, small, again } = error.words;
  heading.textContent = title;
  words.textContent = detail;
  id.textContent = small;
  byId("again").hidden = !again;
  byId("status").textContent = byId("timings").textContent = "";
  for (const part of ["view", "verdict", "matches", "stages"]) byId(part).hidden = true;
  byId("matches").replaceChildren();
  byId("error").hidden = false;
  byId("countdown").hidden = true;
  if (error.status === 429) wait(error.waitS || 1);
  if (byId("error").getBoundingClientRect().bottom > innerHeight) byId("error").scrollIntoView({ block: "center" });
}

// The service is busy: count down, then try again by itself, a few times.
function wait(seconds) {
  if (++tries > OWN_TRIES) return;
  let left = seconds * tries; // a little longer each time
  const say = () => { byId("countdown").textContent = `Trying again in ${count(left, "second")} …`; };
  say();
  byId("countdown").hidden = false;
  ticking = setInterval(() => {
    left -= 1;
    say();
    if (left <= 0) { clearInterval(ticking); search({ again: true }); }
  }, 1000);
}

function show() {
  const both = view() === "stages", found = answers.reranked;
  byId("error").hidden = true;
  byId("view").hidden = !found.matches.length;
  byId("matches").hidden = both || !found.matches.length;
  byId("stages").hidden = !both || !found.matches.length;
  matches.tell(found, { filtered: Boolean(filters.expression()) });
  const open = (answer, at) => comparison.open(answer, photo, at);
  if (both) stages.draw(answers.first, found, { byProduct: byProduct(), open });
  else matches.draw(found, (at) => open(found, at));
}

// Something about the search has changed; several changes in a row are one search.
function changed() {
  filters.show(removed);
  clearTimeout(resting);
  resting = setTimeout(() => search(), REST_MS);
}

// A filter was removed by a button that is gone now: leave the keyboard where the results begin.
function removed() {
  byId("results").focus({ preventScroll: true });
  changed();
}

async function meetGallery() {
  const words = byId("gallery");
  try {
    const answer = await ask("/v1/gallery", { signIn: false }); // `enter` has asked; a search will ask again
    words.textContent = `${count(answer.items, "item")} in the gallery`;
    takeFeedback(answer.feedback);
    filters.offer(answer.columns, changed);
    filters.show(removed);
    if (answers.reranked) show(); // a photo came before this answer did
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    words.textContent = `${error.words.title}. ${error.words.detail}`;
  }
}

listen(choose);
byId("form").addEventListener("submit", (event) => { event.preventDefault(); search({ scroll: true }); });
byId("again").addEventListener("click", () => search());
byId("clear").addEventListener("click", () => { filters.clear(); removed(); });
byId("view").addEventListener("change", () => search({ anew: false }));
byId("options").addEventListener("change", changed);
addEventListener("online", () => { if (!byId("error").hidden) search(); });
await access.enter(async () => { await meetGallery(); await search(); });
await meetGallery();
