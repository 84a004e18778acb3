// The search page: asks the service and shows what it answers.

import * as access from "./access.js";
import * as address from "./address.js";
import { Problem, ask, chosenGallery } from "./api.js";
import { Comparison } from "./compare.js";
import * as details from "./details.js";
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

const byId = (id) => document.getElementById(id);
const REST_MS = 250; // changes of filters and options that follow each other this closely are one

let photo = null; // as `prepare` gives it, with its key in `recent` and, once it was searched, the id of that search
let target = "auto"; // what of it is searched: "auto" the garment found, "none" all of it, or edges
let running = null; // AbortController of the search in progress
let answers = {}; // of the present photo, target and options, by order: "reranked" and "first"
let choices = 0; // photos chosen so far
let garment = ""; // name of what is searched, where it is known
let resting = 0; // timer

const frame = new Frame({
  onChange: () => { target = frame.isWhole ? "none" : frame.edges; search(); },
  onTap: (point) => { const found = proposals.around(point); if (found) take(found.target, found.edges); },
});
const comparison = new Comparison({
  searchWith: async (match) => {
    const blob = await ask(match.image_url, { as: "blob" }).catch(failed);
    if (blob) await choose(new File([blob], `${nameOf(match)}.jpg`, { type: "image/jpeg" }));
  },
  explain: (answer, match) => explain(answer, match, fields("reranked")),
});

const view = () => (details.shown() ? document.querySelector("input[name=view]:checked").value : "matches");
const byProduct = () => byId("group_by").checked;
const failed = (error) => fail(error, { again: () => search({ again: true }) });

function take(wanted, edges) {
  target = wanted;
  frame.set(edges);
  search();
}

// Search a photo. `at` is the place in an address that it comes back from: what of it was searched, and the key of its entry.
async function choose(file, { wanted = "auto", key = "", thumb = null, step = true } = {}) {
  const mine = ++choices, prepared = await prepare(file);
  if (mine !== choices) return; // another one was chosen meanwhile
  if (photo?.url) URL.revokeObjectURL(photo.url);
  photo = { ...prepared, name: file.name || "photo", key: key || `${Date.now()}-${Math.random()}`, thumb };
  target = wanted;
  display(photo);
  document.querySelector("label[for=photo]").textContent = "Another photo";
  frame.reset();
  if (typeof target !== "string") frame.set(target);
  document.body.classList.add("searched");
  byId("results").hidden = false;
  if (comparison.dialog.open) comparison.dialog.close();
  proposals.clear();
  scrollTo({ top: 0, behavior: "instant" });
  await search({ step });
}

function fields(order) {
  const body = new FormData();
  const number = (id) => Math.min(byId(id).max, Math.max(byId(id).min, Math.round(Number(byId(id).value) || 0)));
  const reranked = order === "reranked", filter = filters.expression();
  body.append("image", photo.file, photo.name);
  body.append("top_k", number("top_k"));
  body.append("candidates", Math.max(number("candidates"), number("top_k")));
  body.append("rerank", reranked);
  body.append("group_by", byProduct() ? "product" : "item");
  body.append("box", typeof target === "string" || !photo.width ? target : frame.inPixels(photo.width, photo.height) ?? "none");
  if (chosenGallery()) body.append("gallery", chosenGallery());
  if (filter) body.append("filter", filter);
  if (reranked && number("min_probability")) body.append("min_probability", number("min_probability") / 100);
  return body;
}

// Search for the present photo, anew unless only the view has changed.
async function search({ anew = true, again = false, step = false } = {}) {
  if (!photo) return;
  running?.abort();
  still(again);
  const mine = running = new AbortController();
  if (anew) answers = {};
  garment = proposals.mark(target, frame.edges);
  filters.show(removed);
  const needed = (view() === "stages" ? ["reranked", "first"] : ["reranked"]).filter((order) => !answers[order]);
  if (needed.length) {
    working(true);
    try {
      for (const order of needed) {
        answers[order] = await ask("/v1/search", { method: "POST", form: fields(order), signal: mine.signal, sent });
      }
    } catch (error) {
      if (running === mine) failed(error);
      return;
    } finally {
      if (running === mine) working(false);
    }
  }
  if (running !== mine) return;
  if (target === "auto") await learn(answers.reranked);
  show();
  remember(answers.reranked, step);
}

// What the service saw in the photo, and chose.
function learn({ query }) {
  const { width, height, box: [x0, y0, x1, y1] } = query;
  frame.set({ x0: x0 / width, y0: y0 / height, x1: x1 / width, y1: y1 / height });
  proposals.offer(query, photo.url, take);
  garment = proposals.mark(target, frame.edges);
}

// The address names the photo's latest whole search; the browser keeps the photo.
function remember(answer, step) {
  if (target === "auto" || !photo.id) {
    photo.id = answer.request_id;
    recent.keep(photo, photo.id, chosenGallery());
  }
  address.write({ id: photo.id, target, only: filters.state() }, { step });
}

function show() {
  const both = view() === "stages", found = answers.reranked;
  if (both && !answers.first) { search({ anew: false }); return; }
  byId("error").hidden = true;
  byId("view").hidden = !found.matches.length;
  byId("matches").hidden = both || !found.matches.length;
  byId("stages").hidden = !both || !found.matches.length;
  matches.tell(found, { filtered: Boolean(filters.expression()), garment });
  const open = (answer, at) => comparison.open(answer, photo, at, garment);
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
  await recent.show(chosenGallery(), reopen);
}

const reopen = (entry, more = {}) => choose(new File([entry.file], entry.name, { type: entry.file.type }), { key: entry.key, thumb: entry.thumb, ...more });

// Open the search that the address names: from this browser, or from the service while it keeps the photo.
async function restore() {
  const named = address.read();
  if (!named) return false;
  filters.restore(named.only);
  const kept = await recent.find(named.id), more = { wanted: named.target, step: false };
  if (kept) { await reopen(kept, more); return true; }
  document.body.classList.add("searched");
  byId("results").hidden = false;
  const blob = await ask(`/v1/search/${encodeURIComponent(named.id)}/photo`, { as: "blob" }).catch((error) => fail(error, { title: "This search is not kept any more", detail: "Its photo was kept for some minutes. Choose the photo again." }));
  if (blob) await choose(new File([blob], "photo.jpg", { type: "image/jpeg" }), more);
  return true;
}

details.enter(() => { if (answers.reranked) show(); });
link.enter();
listen(choose);
for (const button of byId("samples").querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const blob = await ask(button.querySelector("img").src, { as: "blob" }).catch(failed);
    if (blob) await choose(new File([blob], `${button.innerText.trim()}.jpg`, { type: "image/jpeg" }));
  });
}
byId("form").addEventListener("submit", (event) => { event.preventDefault(); enlarge(false); search(); });
byId("again").addEventListener("click", () => search());
byId("clear").addEventListener("click", () => { filters.clear(); removed(); });
byId("forget").addEventListener("click", async () => { await recent.clear(); await recent.show(chosenGallery(), reopen); byId("photo").focus(); });
byId("view").addEventListener("change", () => search({ anew: false }));
byId("options").addEventListener("change", changed);
addEventListener("popstate", async () => { if (!await restore()) location.reload(); });
addEventListener("online", () => { if (hushed()) search(); });
await access.enter(async () => { await meetGallery(); await search(); });
await meetGallery();
if (!photo) await restore();
