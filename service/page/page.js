"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("form"), photo = byId("photo"), drop = byId("drop"), preview = byId("preview");
let chosen = null; // the file to search
let running = null; // AbortController of the search in progress

fetch("/v1/gallery").then(async (response) => {
  const answer = await response.json();
  byId("gallery").textContent = response.ok
    ? `${answer.items.toLocaleString()} items, generation ${answer.generation}, model ${answer.model.name}`
    : answer.detail;
}).catch(() => { byId("gallery").textContent = "The service does not answer."; });

function choose(file) {
  if (!file) return;
  chosen = file;
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = `Your photo: ${file.name}`;
  preview.hidden = false;
  byId("invite").hidden = true;
  byId("go").disabled = false;
  search();
}

preview.addEventListener("error", () => { preview.hidden = true; byId("invite").hidden = false; });
photo.addEventListener("change", () => choose(photo.files[0]));
form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  choose(event.dataTransfer.files[0]);
});

async function search() {
  if (!chosen) return;
  if (running) running.abort();
  const mine = running = new AbortController();
  const body = new FormData();
  body.append("image", chosen, chosen.name || "photo");
  body.append("top_k", byId("top_k").value);
  body.append("candidates", byId("candidates").value);
  body.append("rerank", byId("rerank").checked);
  body.append("group_by", byId("group_by").checked ? "product" : "item");
  byId("error").hidden = true;
  byId("status").textContent = "Searching …";
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch("/v1/search", { method: "POST", body, signal: mine.signal });
    const answer = await response.json();
    if (response.ok) show(answer); else fail(inWords(response, answer));
  } catch (error) {
    if (error.name !== "AbortError") fail("The service did not answer. Check your connection and try again.");
  } finally {
    if (running === mine) { running = null; form.removeAttribute("aria-busy"); }
  }
}

function inWords(response, answer) {
  const retry = response.headers.get("Retry-After");
  const again = retry ? ` Please try again in ${retry} s.` : "";
  return `${answer.detail}${/[.!?]$/.test(answer.detail) ? "" : "."}${again} (${answer.error}, request ${answer.request_id})`;
}

function fail(words) {
  byId("status").textContent = "";
  byId("answer").hidden = true;
  byId("error").textContent = words;
  byId("error").hidden = false;
}

function show(answer) {
  const { matches, timings_ms: times } = answer;
  byId("status").textContent = answer.no_match
    ? "Nothing in the gallery meets these conditions."
    : `${matches.length} of ${answer.candidates} candidates, the likeliest first.`;
  byId("timings").textContent = Object.entries(times)
    .map(([stage, ms]) => `${stage} ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`).join(" · ");
  byId("matches").replaceChildren(...matches.map(card));
  byId("answer").hidden = false;
}

function card(match) {
  const item = byId("match").content.cloneNode(true).firstElementChild;
  const part = (selector) => item.querySelector(selector);
  const name = match.metadata.name || match.metadata.title || match.product_id || match.id;
  part("img").src = match.image_url;
  part("img").alt = String(name);
  part(".name").textContent = name;
  part(".id").textContent = match.id;
  const rank = document.createElement("b");
  rank.textContent = `#${match.rank}`;
  const moved = match.stage1_rank - match.rank;
  const arrow = moved > 0 ? "▲" : moved < 0 ? "▼" : "=";
  part(".ranks").append(rank, ` ${arrow} was #${match.stage1_rank}`);
  part(".score").textContent = match.score === null
    ? `distance ${match.distance.toFixed(3)}`
    : `score ${match.score.toFixed(2)} · ${Math.round(match.probability * 100)} % · distance ${match.distance.toFixed(3)}`;
  if (match.probability !== null) {
    const meter = part("meter");
    meter.value = match.probability;
    meter.setAttribute("aria-label", "probability that it is the same garment");
    meter.hidden = false;
  }
  return item;
}
