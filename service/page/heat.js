// Heat maps of a match, laid over both photos; the service draws them when they are asked for.

import { inGallery } from "./api.js";

const byId = (id) => document.getElementById(id);
const chosen = () => document.querySelector("input[name=heat]:checked").value;

export class Heat {
  constructor() {
    this.urls = null;
    this.layers = [...byId("compare").querySelectorAll("img.heat")];
    byId("heat").addEventListener("change", () => this.draw());
    byId("strength").addEventListener("input", () => this.fade());
    for (const layer of this.layers) {
      layer.addEventListener("load", () => { if (this.layers.every(({ complete }) => complete)) byId("heat-note").textContent = this.legend(); });
      layer.addEventListener("error", () => {
        layer.hidden = true;
        byId("heat-note").textContent = "This heat map is not kept any more. Search again to see it.";
      });
    }
  }

  // urls: {query, item} of a match, or undefined where it has none. query: {width, height, box} of the searched photo;
  // its map covers the box, the item's covers the whole photo. stage: the matcher that decided; GRNet alone has a
  // Grad-CAM.
  show(urls, { width, height, box: [x0, y0, x1, y1] }, stage) {
    this.urls = urls ?? null;
    const gradcam = byId("heat-gradcam");
    gradcam.disabled = gradcam.hidden = gradcam.nextElementSibling.hidden = stage !== "grnet";
    if (gradcam.disabled && gradcam.checked) byId("heat-graph").checked = true;
    const share = (pixels, whole) => `${100 * pixels / whole}%`;
    Object.assign(this.layers[0].style, {
      left: share(x0, width), top: share(y0, height), width: share(x1 - x0, width), height: share(y1 - y0, height),
    });
    byId("heat").hidden = !urls;
    this.draw();
  }

  draw() {
    const method = this.urls ? chosen() : "";
    byId("compare").classList.toggle("heated", Boolean(method)); // lines and boxes would cover it
    byId("strength-row").hidden = !method;
    byId("heat-note").textContent = method ? "Drawing the heat map …" : "";
    this.layers.forEach((layer, at) => {
      layer.hidden = !method;
      if (!method) { layer.removeAttribute("src"); return; }
      const url = new URL(inGallery(this.urls[at === 0 ? "query" : "item"]), location.origin);
      url.searchParams.set("method", method);
      url.searchParams.set("ground", "clear");
      layer.src = url.pathname + url.search;
    });
    this.fade();
  }

  fade() {
    for (const layer of this.layers) layer.style.opacity = byId("strength").value / 100;
  }

  legend() {
    return chosen() === "graph"
      ? "The warmer, the more this spot speaks for the match."
      : "Warm: the spots that push the score up most (Grad-CAM).";
  }
}
