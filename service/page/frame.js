// The frame around the garment: drawn with a pointer on the photo, or set by number fields. Edges are shares, 0 to 1.

const WHOLE = { x0: 0, y0: 0, x1: 1, y1: 1 };
const LEAST = 0.04; // a frame narrower than this was a slip of the hand
const EDGES = Object.keys(WHOLE);
const between = (low, value, high) => Math.min(high, Math.max(low, value));

export class Frame {
  // onChange is called when a change is complete, not while the pointer moves.
  constructor(onChange) {
    this.onChange = onChange;
    this.stage = document.getElementById("stage");
    this.box = document.getElementById("frame");
    this.whole = document.getElementById("whole");
    this.fields = Object.fromEntries(EDGES.map((edge) => [edge, document.getElementById(`edge-${edge}`)]));
    this.drag = null;
    this.set(WHOLE);
    this.stage.addEventListener("pointerdown", (event) => this.begin(event));
    this.stage.addEventListener("pointermove", (event) => this.move(event));
    this.stage.addEventListener("pointerup", () => this.end(true));
    this.stage.addEventListener("pointercancel", () => this.end(false));
    this.whole.addEventListener("click", () => { this.set(WHOLE); this.onChange(); document.getElementById("edges").firstElementChild.focus(); });
    for (const edge of EDGES) this.fields[edge].addEventListener("change", () => this.typed(edge));
  }

  get isWhole() { return EDGES.every((edge) => this.edges[edge] === WHOLE[edge]); }

  // "x0,y0,x1,y1" in pixels of a photo of this size; null for all of it.
  inPixels(width, height) {
    if (this.isWhole) return null;
    const { x0, y0, x1, y1 } = this.edges;
    return [x0 * width, y0 * height, x1 * width, y1 * height].map((pixel) => pixel.toFixed(1)).join(",");
  }

  reset() { this.set(WHOLE); }

  set(edges) {
    this.edges = edges;
    for (const edge of EDGES) this.fields[edge].value = Math.round(100 * edges[edge]);
    const style = this.box.style;
    style.left = `${100 * edges.x0}%`;
    style.top = `${100 * edges.y0}%`;
    style.right = `${100 * (1 - edges.x1)}%`;
    style.bottom = `${100 * (1 - edges.y1)}%`;
    this.box.classList.toggle("part", !this.isWhole);
    this.whole.hidden = this.isWhole;
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

  at(event) {
    const area = this.stage.getBoundingClientRect();
    return {
      x: between(0, (event.clientX - area.left) / area.width, 1),
      y: between(0, (event.clientY - area.top) / area.height, 1),
    };
  }

  begin(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    const { x, y } = this.at(event), corner = event.target.dataset.corner, { x0, y0, x1, y1 } = this.edges;
    const drag = { x, y, before: this.edges };
    if (corner) drag.anchor = { x: corner.endsWith("w") ? x1 : x0, y: corner.startsWith("n") ? y1 : y0 };
    else if (event.target === this.box && !this.isWhole) drag.moving = true;
    else if (event.pointerType === "touch") return; // a finger on the photo scrolls the page; the corners resize
    else drag.anchor = { x, y };
    this.drag = drag;
    this.stage.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  move(event) {
    if (!this.drag) return;
    const { x, y } = this.at(event), { anchor, before } = this.drag;
    if (anchor) {
      this.set({ x0: Math.min(anchor.x, x), y0: Math.min(anchor.y, y), x1: Math.max(anchor.x, x), y1: Math.max(anchor.y, y) });
      return;
    }
    const right = between(-before.x0, x - this.drag.x, 1 - before.x1);
    const down = between(-before.y0, y - this.drag.y, 1 - before.y1);
    this.set({ x0: before.x0 + right, y0: before.y0 + down, x1: before.x1 + right, y1: before.y1 + down });
  }

  end(kept) {
    if (!this.drag) return;
    const { before } = this.drag, { x0, y0, x1, y1 } = this.edges;
    this.drag = null;
    if (!kept || x1 - x0 < LEAST || y1 - y0 < LEAST) this.set(before);
    else if (EDGES.some((edge) => this.edges[edge] !== before[edge])) this.onChange();
  }
}
