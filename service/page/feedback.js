// "This is it" and "Not it": sent to the service, which keeps them as training pairs.

import { Problem, ask, chosenGallery } from "./api.js";
import { byId } from "./elements.js";
import { nameOf } from "./words.js";

let taken = false; // whether this service keeps feedback
const given = new Map(); // `request/item` -> verdict, as far as the service has saved it

export const takeFeedback = (yes) => { taken = yes; };

// Fill `place` with the two buttons for one match of an answer.
export function opinion(place, answer, match) {
  if (!taken) { place.replaceChildren(); return; }
  place.replaceChildren(byId("opinions").content.cloneNode(true));
  const about = `${answer.request_id}/${match.id}`, buttons = [...place.querySelectorAll("button")], saved = place.querySelector(".saved");
  const press = () => buttons.forEach((button) => button.setAttribute("aria-pressed", given.get(about) === button.value));
  press();
  for (const button of buttons) {
    button.setAttribute("aria-label", `${button.textContent}: ${nameOf(match)}`);
    button.addEventListener("click", async () => {
      if (given.get(about) === button.value) return;
      saved.textContent = "Saving …";
      const json = { request_id: answer.request_id, item_id: match.id, verdict: button.value };
      if (chosenGallery()) json.gallery = chosenGallery();
      try {
        await ask("/v1/feedback", { method: "POST", json });
        given.set(about, button.value);
        saved.textContent = "Saved, thank you.";
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        saved.textContent = error.status === 404 ? "Not saved: this search is some time ago. Search again, then say it." : `Not saved. ${error.words.title}.`;
      }
      press();
    });
  }
}
