// The search page: asks the service and shows what it answers.

import * as access from "./access.js";
import * as address from "./address.js";
import * as alike from "./alike.js";
import { Problem, ask, chosenGallery } from "./api.js";
import { lay, map, onPart } from "./attention.js";
import { Comparison } from "./compare.js";
import * as details from "./details.js";
import { byId } from "./elements.js";
import { explain } from "./explain.js";
import { takeFeedback } from "./feedback.js";
import * as filters from "./filters.js";
import { Frame } from "./frame.js";
import * as link from "./link.js";
import * as matches from "./matches.js";
import { display, enlarge, listen, prepare } from "./photo.js";
import * as proposals from "./proposals.js";
import * as recent from "./recent.js";
import * as stages from "./stages.js";
import { fail, hushed, sent, still, working } from "./state.js";
import { count, nameOf } from "./words.js";

const REST_MS = 250; // changes of filters and options that follow each other this closely are one

let photo = null, before = null; // the present one and the one before it: {file, url, name, size: promise of display(), key and thumb in `recent`, id: of its search once there is one}
let target = "auto"; // what of it is searched: "auto" the garment found, "none" all of it, or edges
let running = null; // AbortController of the search in progress
let answers = {}; // of the present photo, target and options, by order: "reranked" and, to stand beside it, "first"
let choices = 0; // photos chosen so far, or searches named by an address
let garment = { name: "", kind: "" }; // what is searched, where it is known
let resting = 0; // timer

const frame = new Frame({
  onChange: () => { target = frame.isWhole ? "none" : frame.edges; search(); },
  onTap: (point) => { const found = proposals.around(point); if (found) take(found.target, found.edges); },
});
const comparison = new Comparison({
  searchWith: (match) => chooseFrom(match.image_url, nameOf(match)),
  explain: (answer, match) => explain(answer, match, fields("reranked")),
});

const view = () => (details.shown() ? document.querySelector("input[name=view]:checked").value : "matches");
const byProduct = () => byId("group_by").checked;
const failed = (error) => fail(error, { again: photo && (() => search({ again: true })) });

function take(wanted, edges) {
  target = wanted;
  frame.set(edges);
  search();
}

// Search a photo.
//   wanted       what of it, where that is known
//   key, thumb   of its entry in `recent`, where it has one
//   step         whether the browser's back button undoes it
async function choose(chosen, { wanted = "auto", key = "", thumb = null, step = true } = {}) {
  const mine = ++choices, file = await prepare(chosen);
  if (mine !== choices) return; // another one was chosen meanwhile
  if (before) URL.revokeObjectURL(before.url); // not yet the present one's: the browser may still be reading it for what it draws
  before = photo;
  photo = { file, url: URL.createObjectURL(file), name: chosen.name || "photo", key: key || `${Date.now()}-${Math.random()}`, thumb };
  photo.size = display(photo);
  target = wanted;
  document.querySelector("label[for=photo]").textContent = "Another photo";
  frame.reset();
  if (typeof target !== "string") frame.set(target);
  enterResults();
  comparison.leave();
  proposals.clear();
  scrollTo({ top: 0, behavior: "instant" });
  await search({ step });
}

// The same with a photo that the service has; what is chosen while it comes has the last word.
async function chooseFrom(url, name, { mine = ++choices, asked = failed, ...more } = {}) {
  const blob = await ask(url, { as: "blob" }).catch((error) => { if (mine === choices) asked(error); });
  if (blob && mine === choices) await choose(new File([blob], `${name}.jpg`, { type: "image/jpeg" }), more);
}

function enterResults() {
  document.body.classList.add("searched");
  byId("results").hidden = false;
}

// The form of a search. "reranked" is the order asked for, "first" the one to stand beside it: without what must be alike
// above all or, where nothing must, as stage one has it. `size` of the photo is needed where edges are the target.
function fields(order, size = null) {
  const body = new FormData();
  const number = (id) => Math.min(byId(id).max, Math.max(byId(id).min, Math.round(Number(byId(id).value) || 0)));
  const reranked = order === "reranked", filter = filters.expression(), weights = alike.weights();
  body.append("image", photo.file, photo.name);
  body.append("top_k", number("top_k"));
  body.append("rerank", reranked || Boolean(weights));
  body.append("group_by", byProduct() ? "product" : "item");
  body.append("box", typeof target === "string" ? target : size ? frame.inPixels(size.width, size.height) ?? "none" : "auto");
  if (chosenGallery()) body.append("gallery", chosenGallery());
  if (filter) body.append("filter", filter);
  if (reranked && weights) body.append("attributes", weights);
  if (reranked && alike.alone()) { // over more items than a shortlist, and its scores are no probabilities
    body.append("matcher", "attributes");
    return body;
  }
  body.append("candidates", Math.max(number("candidates"), number("top_k")));
  if ((reranked || weights) && number("min_probability")) body.append("min_probability", number("min_probability") / 100);
  return body;
}

// Search for the present photo, anew unless only the view has changed.
async function search({ anew = true, again = false, step = false } = {}) {
  if (!photo) return;
  running?.abort();
  clearTimeout(resting); // what was to be searched in a moment is searched now
  still(again);
  const mine = running = new AbortController();
  if (anew) { answers = {}; look(null); }
  mark();
  filters.show(removed);
  const needed = (view() === "stages" ? ["reranked", "first"] : ["reranked"]).filter((order) => !answers[order]);
  if (needed.length) {
    working(true);
    try {
      const size = typeof target === "string" ? null : await photo.size;
      for (const order of running === mine ? needed : []) {
        answers[order] = await ask("/v1/search", { method: "POST", form: fields(order, size), signal: mine.signal, sent });
      }
      await photo.size; // read long since, as a rule: nothing jumps when the matches come
    } catch (error) {
      if (running === mine) failed(error);
      return;
    } finally {
      if (running === mine) working(false);
    }
  }
  if (running !== mine) return;
  if (target === "auto") learn(answers.reranked);
  show();
  remember(answers.reranked, step);
}

// What the service saw in the photo, and chose.
function learn({ query }) {
  const { width, height, box: [x0, y0, x1, y1] } = query;
  frame.set({ x0: x0 / width, y0: y0 / height, x1: x1 / width, y1: y1 / height });
  proposals.offer(query, photo.url, take);
  mark();
}

function mark() {
  garment = proposals.mark(target, frame.edges);
  alike.suit(garment.kind);
}

// Show where in the photo an attribute is seen; null: nowhere any more.
function look(name) {
  const found = answers.reranked;
  lay(byId("seen"), name && found?.matches.length ? map(found, found.matches[0], name, "query") : "", { style: found ? onPart(found.query) : {} });
}

// The address names the photo's latest whole search; the browser keeps the photo.
function remember(answer, step) {
  if (target === "auto" || !photo.id) {
    photo.id = answer.request_id;
    recent.keep(photo, photo.id, chosenGallery());
  }
  address.write({ id: photo.id, target, only: filters.state(), alike: alike.state() }, { step });
}

function show() {
  const both = view() === "stages", found = answers.reranked;
  if (both && !answers.first) { search({ anew: false }); return; }
  byId("error").hidden = true;
  byId("view").hidden = !found.matches.length;
  byId("matches").hidden = both || !found.matches.length;
  byId("stages").hidden = !both || !found.matches.length;
  alike.suitAnswer(found);
  const same = alike.asked().length ? alike.words() : "";
  matches.tell(found, { filtered: Boolean(filters.expression()), garment: garment.name, same, alone: alike.alone() });
  const open = (answer, at) => comparison.open(answer, photo, at, { garment, asked: alike.asked() });
  if (both) stages.draw(answers.first, found, { byProduct: byProduct(), same, open });
  else matches.draw(found, { open: (at) => open(found, at), look });
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
  const words = byId("gallery"), name = chosenGallery();
  try {
    const answer = await ask("/v1/gallery", { signIn: false }); // `enter` has asked; a search will ask again
    if (name !== chosenGallery()) return; // another one was chosen meanwhile
    words.textContent = `${count(answer.items, "item")} in the gallery`;
    takeFeedback(answer.feedback);
    filters.offer(answer.columns, changed);
    alike.offer(answer.attributes, { changed, look });
    filters.show(removed);
    if (answers.reranked) show(); // a photo came before this answer did
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    words.textContent = `${error.words.title}. ${error.words.detail}`;
  }
  await recent.show(chosenGallery(), reopen);
}

const reopen = (entry, more = {}) => choose(new File([entry.file], entry.name, { type: entry.file.type }), { key: entry.key, thumb: entry.thumb, ...more });

// Open the search that the address names: from this browser, or from the service while it keeps the photo.
async function restore() {
  const named = address.read();
  if (!named) return false;
  const mine = ++choices, more = { wanted: named.target, step: false };
  filters.restore(named.only);
  alike.restore(named.alike);
  const kept = await recent.find(named.id);
  if (mine !== choices) return true; // a photo was chosen meanwhile, or the back button pressed again
  if (kept) { await reopen(kept, more); return true; }
  enterResults();
  const asked = (error) => fail(error, { title: "This search is not kept any more", detail: "Its photo was kept for some minutes. Choose the photo again." });
  await chooseFrom(`/v1/search/${encodeURIComponent(named.id)}/photo`, "photo", { mine, asked, ...more });
  return true;
}

details.enter(() => { if (answers.reranked) show(); });
link.enter();
listen(choose);
for (const button of byId("samples").querySelectorAll("button")) {
  button.addEventListener("click", () => chooseFrom(button.querySelector("img").src, button.innerText.trim()));
}
byId("form").addEventListener("submit", (event) => { event.preventDefault(); enlarge(false); search(); });
byId("again").addEventListener("click", () => search());
byId("clear").addEventListener("click", () => { filters.clear(); removed(); });
byId("forget").addEventListener("click", async () => { await recent.clear(); await recent.show(chosenGallery(), reopen); byId("photo").focus(); });
byId("view").addEventListener("change", () => search({ anew: false }));
byId("options").addEventListener("change", changed);
byId("alike-how").addEventListener("change", changed);
addEventListener("popstate", async () => { if (!await restore()) location.reload(); });
addEventListener("online", () => { if (hushed()) search(); });
await access.enter(async () => {
  running?.abort(); // what was found so far is another gallery's
  if (photo) photo.id = "";
  await meetGallery();
  await search();
});
await meetGallery();
if (!choices) await restore();
