// The photo: chosen, taken, dropped or pasted; shown, and made small enough to send over a phone's line.

import { byId, make } from "./elements.js";

const LONG_SIDE_PX = 2048; // more than the model looks at, even for a garment that is a tenth of the photo
const SMALL_BYTES = 3_000_000; // sent as it is

// A chosen file as it will be sent: at once where it is small, else drawn anew. The service may read what the browser cannot.
export async function prepare(file) {
  if (file.size <= SMALL_BYTES) return file;
  const bitmap = await createImageBitmap(file).catch(() => null); // upright: the browser applies the photo's orientation
  const scale = bitmap ? LONG_SIDE_PX / Math.max(bitmap.width, bitmap.height) : 1;
  const smaller = scale < 1 ? await redrawn(bitmap, scale) : null;
  bitmap?.close();
  return smaller ?? file;
}

async function redrawn(bitmap, scale) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = make("canvas", { width, height });
  const paper = canvas.getContext("2d");
  paper.fillStyle = "#fff"; // what is transparent becomes white, as in the service
  paper.fillRect(0, 0, width, height);
  paper.imageSmoothingQuality = "high";
  paper.drawImage(bitmap, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

const COARSE = matchMedia("(pointer: coarse)");

// Show a photo where the invitation was. On a narrow screen it is small, with a button that enlarges it to be framed.
// Gives {width, height} once the browser has read it; null where it cannot, or where another photo is shown by then.
export async function display({ url, name }) {
  const preview = byId("preview");
  byId("invite").hidden = true;
  byId("drop").classList.add("small");
  byId("hint").textContent = COARSE.matches
    ? "Pull the corners to frame one garment, or draw a frame around it."
    : "Another part? Drag across it, or pull the corners.";
  byId("unseen-photo").textContent = `${name}: this browser cannot show this file.`;
  preview.src = url;
  preview.alt = `Your photo ${name}`;
  const seen = await preview.decode().then(() => true, () => false);
  if (preview.src !== url) return null;
  for (const id of ["stage", "edges", "hint", "reduce"]) byId(id).hidden = !seen;
  byId("draw").hidden = !seen || !COARSE.matches;
  byId("unseen-photo").hidden = seen;
  if (!seen) { preview.removeAttribute("src"); return null; }
  const { naturalWidth: width, naturalHeight: height } = preview;
  fit(byId("stage"), width, height, "min(26rem, 50vh)");
  return { width, height };
}

// Give an element an image's shape, as large as its place and a greatest height allow.
export function fit(element, width, height, tallest) {
  element.style.aspectRatio = `${width} / ${height}`;
  element.style.width = `min(100%, calc(${tallest} * ${width / height}))`;
}

// Call `choose` with every file that the user hands over, by whichever way.
export function listen(choose) {
  byId("enlarge").addEventListener("click", () => { enlarge(true); byId("reduce").focus(); });
  byId("reduce").addEventListener("click", () => enlarge(false));
  for (const id of ["photo", "camera"]) {
    byId(id).addEventListener("change", (event) => {
      if (event.target.files[0]) choose(event.target.files[0]);
      event.target.value = ""; // the same file can be chosen again
    });
  }
  const drop = byId("drop");
  let inside = 0; // dragenter and dragleave come in pairs, for every element that is crossed
  const files = (event) => event.dataTransfer?.types.includes("Files"); // a dragged text may fall into a field
  const over = (step) => { inside = step ? Math.max(0, inside + step) : 0; drop.classList.toggle("over", inside > 0); };
  document.addEventListener("dragenter", (event) => { if (files(event)) { event.preventDefault(); over(1); } });
  document.addEventListener("dragleave", (event) => { if (files(event)) over(-1); });
  document.addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    over(0);
    if (!files(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files[0]) choose(event.clipboardData.files[0]);
  });
  // Where there is no keyboard to paste with; browsers have it on https and on this machine only.
  byId("paste").hidden = !(COARSE.matches && navigator.clipboard?.read);
  byId("paste").addEventListener("click", async () => {
    const image = await pasted();
    if (image) choose(image);
    else byId("status").textContent = "There is no photo to paste. Copy one first, and allow this page to read it.";
  });
}

// On a narrow screen: large, to be framed, or small, to leave the room to the matches.
export function enlarge(yes) {
  byId("drop").classList.toggle("small", !yes);
  if (!yes) byId("results").scrollIntoView({ block: "nearest" });
}

async function pasted() {
  for (const item of await navigator.clipboard.read().catch(() => [])) {
    const type = item.types.find((each) => each.startsWith("image/"));
    if (type) return new File([await item.getType(type)], "pasted photo", { type });
  }
  return null;
}
