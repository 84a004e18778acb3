// Heat maps of a match, laid over both photos; the service draws them when they are asked for.

import { inGallery } from "./api.js";
import { onPart } from "./attention.js";
import { byId } from "./elements.js";
import { spoken } from "./words.js";

const chosen = () => document.querySelector("input[name=heat]:checked").value;

export class Heat {
  constructor() {
    this.urls = this.attribute = null;
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
  show(urls, query, stage) {
    this.urls = urls ?? null;
    this.attribute = null;
    const gradcam = byId("heat-gradcam");
    gradcam.disabled = gradcam.hidden = gradcam.nextElementSibling.hidden = stage !== "grnet";
    if (gradcam.disabled && gradcam.checked) byId("heat-graph").checked = true;
    Object.assign(this.layers[0].style, onPart(query));
    byId("heat").hidden = !urls;
    this.draw();
  }

  // Show where an attribute is seen in place of what was chosen; null: back to that.
  look(attribute) {
    this.attribute = attribute;
    this.draw();
  }

  draw() {
    const method = !this.urls ? "" : this.attribute ? "attention" : chosen();
    byId("compare").classList.toggle("heated", Boolean(method)); // lines and boxes would cover it
    byId("strength-row").hidden = !method;
    byId("heat-note").textContent = method ? "Drawing the heat map …" : "";
    this.layers.forEach((layer, at) => {
      layer.hidden = !method;
      if (!method) { layer.removeAttribute("src"); return; }
      const url = new URL(inGallery(this.urls[at === 0 ? "query" : "item"]), location.origin);
      url.searchParams.set("method", method);
      if (this.attribute) url.searchParams.set("attribute", this.attribute);
      url.searchParams.set("ground", "clear");
      layer.src = url.pathname + url.search;
    });
    this.fade();
  }

  fade() {
    for (const layer of this.layers) layer.style.opacity = byId("strength").value / 100;
  }

  legend() {
    if (this.attribute) return `The warmer, the more the model looks here for the ${spoken(this.attribute)}.`;
    return chosen() === "graph"
      ? "The warmer, the more this spot speaks for the match."
      : "Warm: the spots that push the score up most (Grad-CAM).";
  }
}
