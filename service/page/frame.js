// The frame around the garment: drawn with a pointer on the photo, moved with arrow keys, or set by number fields.
// Edges are shares of the photo, 0 to 1.

import { byId } from "./elements.js";

const WHOLE = { x0: 0, y0: 0, x1: 1, y1: 1 };
const LEAST = 0.04; // a frame narrower than this was a slip of the hand
const EDGES = Object.keys(WHOLE);
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 0.01, LEAP = 0.05; // of the photo, for an arrow key without and with Shift
const KEYS_REST_MS = 500; // after the last key the change is complete
const TAP = 0.015; // a pointer that moved less has tapped

const between = (low, value, high) => Math.min(high, Math.max(low, value));

export class Frame {
  // onChange() is called when a change is complete, not while the pointer moves; onTap({x, y}) for a tap on the photo.
  constructor({ onChange, onTap }) {
    Object.assign(this, { onChange, onTap, stage: byId("stage"), box: byId("frame"), drag: null, drawing: false });
    this.fields = Object.fromEntries(EDGES.map((edge) => [edge, byId(`edge-${edge}`)]));
    this.set(WHOLE);
    this.stage.addEventListener("pointerdown", (event) => this.begin(event));
    this.stage.addEventListener("pointermove", (event) => this.move(event));
    this.stage.addEventListener("pointerup", (event) => this.end(event, true));
    this.stage.addEventListener("pointercancel", (event) => this.end(event, false));
    this.box.addEventListener("keydown", (event) => this.key(event));
    byId("draw").addEventListener("click", () => this.draw(!this.drawing));
    for (const edge of EDGES) this.fields[edge].addEventListener("change", () => this.typed(edge));
  }

  get isWhole() { return EDGES.every((edge) => this.edges[edge] === WHOLE[edge]); }

  // "x0,y0,x1,y1" in pixels of a photo of this size; null for all of it.
  inPixels(width, height) {
    if (this.isWhole) return null;
    const { x0, y0, x1, y1 } = this.edges;
    return [x0 * width, y0 * height, x1 * width, y1 * height].map((pixel) => pixel.toFixed(1)).join(",");
  }

  reset() { this.set(WHOLE); this.draw(false); }

  set(edges) {
    clearTimeout(this.resting); // what keys had begun is not about these edges
    this.edges = edges;
    for (const edge of EDGES) this.fields[edge].value = Math.round(100 * edges[edge]);
    const style = this.box.style;
    style.left = `${100 * edges.x0}%`;
    style.top = `${100 * edges.y0}%`;
    style.right = `${100 * (1 - edges.x1)}%`;
    style.bottom = `${100 * (1 - edges.y1)}%`;
    this.box.classList.toggle("part", !this.isWhole);
  }

  // While drawing, a finger on the photo draws instead of scrolling the page.
  draw(on) {
    this.drawing = on;
    this.stage.classList.toggle("drawing", on);
    byId("draw").setAttribute("aria-pressed", on);
  }

  typed(edge) {
    const edges = { ...this.edges, [edge]: between(0, (Number(this.fields[edge].value) || 0) / 100, 1) };
    const [low, high] = edge.startsWith("x") ? ["x0", "x1"] : ["y0", "y1"];
    // The edge that was typed stays; the opposite one gives way.
    if (edge === low) {
      edges[low] = Math.min(edges[low], 1 - LEAST);
      edges[high] = Math.max(edges[high], edges[low] + LEAST);
    } else {
      edges[high] = Math.max(edges[high], LEAST);
      edges[low] = Math.min(edges[low], edges[high] - LEAST);
    }
    this.set(edges);
    this.onChange();
  }

  key(event) {
    const step = STEPS[event.key], part = event.target.dataset.part;
    if (!step || !part || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [right, down] = step.map((way) => way * (event.shiftKey ? LEAP : STEP));
    if (part === "body") {
      this.shift(this.edges, right, down);
    } else {
      const edges = { ...this.edges };
      if (part.endsWith("w")) edges.x0 = between(0, edges.x0 + right, edges.x1 - LEAST);
      else edges.x1 = between(edges.x0 + LEAST, edges.x1 + right, 1);
      if (part.startsWith("n")) edges.y0 = between(0, edges.y0 + down, edges.y1 - LEAST);
      else edges.y1 = between(edges.y0 + LEAST, edges.y1 + down, 1);
      this.set(edges);
    }
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.onChange(), KEYS_REST_MS);
  }

  shift({ x0, y0, x1, y1 }, right, down) {
    right = between(-x0, right, 1 - x1);
    down = between(-y0, down, 1 - y1);
    this.set({ x0: x0 + right, y0: y0 + down, x1: x1 + right, y1: y1 + down });
  }

  at(event) {
    const area = this.stage.getBoundingClientRect();
    return {
      x: between(0, (event.clientX - area.left) / area.width, 1),
      y: between(0, (event.clientY - area.top) / area.height, 1),
    };
  }

  begin(event) {
    if (event.button !== 0 || !event.isPrimary || event.target.id === "enlarge") return;
    const { x, y } = this.at(event), part = event.target.dataset.part, { x0, y0, x1, y1 } = this.edges;
    const drag = { x, y, before: this.edges };
    if (part && part !== "body") drag.anchor = { x: part.endsWith("w") ? x1 : x0, y: part.startsWith("n") ? y1 : y0 };
    else if (this.drawing) drag.anchor = { x, y };
    else if (part === "body" && !this.isWhole) drag.moving = true;
    else if (event.pointerType === "touch") drag.tapOnly = true; // a finger on the photo scrolls the page
    else drag.anchor = { x, y };
    this.drag = drag;
    if (drag.tapOnly) return;
    this.stage.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  move(event) {
    if (!this.drag || this.drag.tapOnly) return;
    const { x, y } = this.at(event), { anchor, before } = this.drag;
    if (anchor) this.set({ x0: Math.min(anchor.x, x), y0: Math.min(anchor.y, y), x1: Math.max(anchor.x, x), y1: Math.max(anchor.y, y) });
    else this.shift(before, x - this.drag.x, y - this.drag.y);
  }

  end(event, kept) {
    if (!this.drag) return;
    const { before, x, y } = this.drag, now = this.at(event), { x0, y0, x1, y1 } = this.edges;
    this.drag = null;
    if (kept && Math.hypot(now.x - x, now.y - y) < TAP) {
      this.set(before);
      this.onTap({ x, y });
      return;
    }
    if (!kept || x1 - x0 < LEAST || y1 - y0 < LEAST) this.set(before);
    else if (EDGES.some((edge) => this.edges[edge] !== before[edge])) { this.draw(false); this.onChange(); }
  }
}
