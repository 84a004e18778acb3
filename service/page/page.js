// The search page: asks the service and shows what it answers.

import { Comparison } from "./compare.js";
import * as condition from "./condition.js";
import { Frame } from "./frame.js";
import { display, listen, prepare } from "./photo.js";
import { LIKELY, SILENCE, chance, moved, nameOf, percent, priceOf, problem, timings } from "./words.js";

const byId = (id) => document.getElementById(id);
const SLOW_MS = 4000; // after this the page says that it is still at work

let photo = null; // as `prepare` gives it
let running = null; // AbortController of the search in progress
let answers = {}; // of the present photo, frame and options, by order: "reranked" and "first"
let choices = 0; // photos chosen so far

const frame = new Frame(() => search());
const comparison = new Comparison(async (match) => {
  const response = await fetch(match.image_url).catch(() => null);
  if (!response?.ok) { fail(response ? problem(response, await json(response)) : SILENCE); return; }
  await choose(new File([await response.blob()], `${nameOf(match)}.jpg`, { type: "image/jpeg" }));
});

const order = () => document.querySelector("input[name=order]:checked").value;
const json = (response) => response.json().catch(() => null);

async function choose(file) {
  const mine = ++choices;
  const prepared = await prepare(file);
  if (mine !== choices) return;
  if (photo?.url) URL.revokeObjectURL(photo.url);
  photo = { ...prepared, name: file.name || "photo" };
  display(photo, photo.name);
  document.querySelector("label[for=photo]").textContent = "Another photo";
  frame.reset();
  byId("go").hidden = false;
  byId("steps").hidden = true;
  if (comparison.dialog.open) comparison.dialog.close();
  await search({ scroll: true });
}

function fields(wanted) {
  const body = new FormData();
  const number = (id) => Math.min(byId(id).max, Math.max(byId(id).min, Math.round(Number(byId(id).value) || 0)));
  const reranked = wanted === "reranked";
  body.append("image", photo.file, photo.name);
  body.append("top_k", number("top_k"));
  body.append("candidates", Math.max(number("candidates"), number("top_k")));
  body.append("rerank", reranked);
  body.append("explain", reranked);
  body.append("group_by", byId("group_by").checked ? "product" : "item");
  const box = photo.width && frame.inPixels(photo.width, photo.height), filter = condition.expression();
  if (box) body.append("box", box);
  if (filter) body.append("filter", filter);
  if (reranked && number("min_probability")) body.append("min_probability", number("min_probability") / 100);
  return body;
}

// Search for the present photo, anew unless only the order has changed.
async function search({ anew = true, scroll = false } = {}) {
  if (!photo) return;
  running?.abort();
  const mine = running = new AbortController(), wanted = order();
  if (anew) answers = {};
  if (!answers[wanted]) {
    working(true);
    const slow = setTimeout(() => { byId("status").textContent = "Still comparing; a large gallery takes a little longer …"; }, SLOW_MS);
    try {
      const response = await fetch("/v1/search", { method: "POST", body: fields(wanted), signal: mine.signal });
      const answer = await json(response);
      if (running !== mine) return;
      if (!response.ok || !answer) { fail(problem(response, answer)); return; }
      answers[wanted] = answer;
    } catch (error) {
      if (running === mine && error.name !== "AbortError") fail(SILENCE);
      return;
    } finally {
      clearTimeout(slow);
      if (running === mine) working(false);
    }
  }
  show(answers[wanted], wanted);
  // On a phone the matches begin below the photo.
  if (scroll && byId("results").getBoundingClientRect().top > innerHeight / 2) byId("results").scrollIntoView({ behavior: "smooth" });
}

function working(busy) {
  byId("progress").hidden = !busy;
  byId("results").classList.toggle("waiting", busy);
  byId("results").setAttribute("aria-busy", busy);
  if (!busy) return;
  byId("error").hidden = true;
  byId("status").textContent = "Looking for the garment …";
  byId("results-title").textContent = "Matches";
}

function fail({ title, detail, small, again }) {
  const [heading, words, id] = byId("error").children;
  heading.textContent = title;
  words.textContent = detail;
  id.textContent = small;
  byId("again").hidden = !again;
  byId("status").textContent = byId("timings").textContent = "";
  byId("order").hidden = byId("verdict").hidden = true;
  byId("matches").replaceChildren();
  byId("error").hidden = false;
  if (byId("error").getBoundingClientRect().bottom > innerHeight) byId("error").scrollIntoView({ block: "center" });
}

function show(answer, wanted) {
  const { matches, candidates, gallery } = answer, reranked = wanted === "reranked";
  byId("error").hidden = true;
  byId("order").hidden = false;
  byId("status").textContent = answer.no_match ? "" : reranked
    ? `${matches.length} of ${candidates} candidates, compared region by region, likeliest first.`
    : `${matches.length} of ${candidates} candidates by overall look, nearest first. Regions are not compared.`;
  verdict(answer, reranked);
  byId("timings").textContent = `${timings(answer.timings_ms)} · ${gallery.items.toLocaleString()} items, generation ${gallery.generation}`;
  byId("matches").replaceChildren(...matches.map((match, at) => card(match, () => comparison.open(answer, photo, at))));
  condition.suggest(matches);
}

// Says plainly when nothing was found, or nothing likely.
function verdict(answer, reranked) {
  const [heading, words] = byId("verdict").children, best = answer.matches[0];
  const unlikely = reranked && best && best.probability < LIKELY;
  heading.textContent = answer.no_match ? "No match" : "Probably not in this gallery";
  words.textContent = answer.no_match
    ? "Nothing in the gallery meets these conditions. Loosen the search options, or frame the garment more closely."
    : unlikely ? `The nearest item has ${percent(best.probability)}. Framing the garment closely can help.` : "";
  byId("verdict").hidden = !answer.no_match && !unlikely;
}

function card(match, open) {
  const item = byId("match").content.cloneNode(true).firstElementChild;
  const part = (selector) => item.querySelector(selector);
  const other = answers.reranked?.matches.find((each) => each.id === match.id);
  part("img").src = match.image_url;
  part("img").addEventListener("error", (event) => { event.target.alt = "photo not available"; });
  part(".rank").textContent = match.rank;
  part("button").textContent = nameOf(match);
  part("button").addEventListener("click", open);
  part(".price").textContent = priceOf(match);
  const [mark, words] = part(".moved").children;
  if (match.probability === null) {
    part(".chance").textContent = `Distance ${match.distance.toFixed(3)}`;
    words.textContent = other ? `Reranked #${other.rank}` : answers.reranked ? "Not among the reranked shown" : "";
    return item;
  }
  part(".chance span").textContent = chance(match.probability);
  part("meter").value = match.probability;
  part("meter").setAttribute("aria-hidden", "true"); // the words beside it say the same
  const [arrow, text, up] = moved(match);
  mark.textContent = arrow;
  mark.classList.toggle("up", up);
  words.textContent = text;
  return item;
}

listen(choose);
byId("form").addEventListener("submit", (event) => { event.preventDefault(); search({ scroll: true }); });
byId("again").addEventListener("click", () => search());
byId("order").addEventListener("change", () => search({ anew: false }));
byId("options").addEventListener("change", () => search());
byId("column").addEventListener("change", () => condition.suggest(answers[order()]?.matches ?? []));
fetch("/v1/gallery").then(async (response) => {
  const answer = await json(response);
  if (!response.ok) { byId("gallery").textContent = answer?.detail ?? "The service is not ready."; return; }
  byId("gallery").textContent = `${answer.items.toLocaleString()} ${answer.items === 1 ? "item" : "items"} in the gallery`;
  condition.offer(answer.columns);
}).catch(() => { byId("gallery").textContent = "The service does not answer."; });
