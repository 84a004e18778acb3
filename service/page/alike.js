// Chips for the attributes that the gallery has: what the matches must be like above all.

import { pointed } from "./attention.js";
import { byId, make } from "./elements.js";
import { fits, listed, ordered } from "./traits.js";
import { spoken } from "./words.js";

const WEIGHT = 1; // outweighs most differences of a shortlist, and not a garment that is the same in all else
const SHOWN = 5; // chips at once; the others are one step further

let chips = []; // {name, button}
let searched = ""; // kind of the garment, where it is known
let all = false; // whether those further down are shown
let none = false; // whether the photo shows no garment, so nothing that could be alike

const pressed = ({ button }) => button.getAttribute("aria-pressed") === "true";

// Draw chips for these attributes, as GET /v1/gallery gives them. `changed` is called when one changes, `look(name)` to
// show where an attribute is seen in the photo, and with null when that is over.
export function offer(attributes, { changed, look }) {
  const before = asked();
  chips = ordered(attributes).map(({ name }) => {
    const button = make("button", { type: "button", className: "chip", textContent: `Same ${spoken(name)}` });
    button.setAttribute("aria-pressed", before.includes(name));
    button.addEventListener("click", () => { button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true"); settle(); changed(); });
    pointed(button, { show: () => look(name), hide: () => look(null) });
    return { name, button };
  });
  byId("alike-chips").replaceChildren(...chips.map(({ button }) => button), byId("alike-more"));
  settle();
}

// Leave out what a garment of this kind cannot have.
export function suit(kind) {
  searched = kind;
  settle();
}

// A photo without a garment has no neckline: no chips, unless one is pressed and can be let go.
export function suitAnswer({ no_match_reason: why }) {
  none = why === "no_garment";
  settle();
}

function settle() {
  byId("alike").hidden = !chips.length || (none && !asked().length);
  const fit = chips.filter((chip) => pressed(chip) || fits(searched, chip.name));
  for (const chip of chips) chip.button.hidden = !pressed(chip) && (!fit.includes(chip) || (!all && fit.indexOf(chip) >= SHOWN));
  byId("alike-more").hidden = all || fit.length <= SHOWN;
  byId("alike-how").hidden = !asked().length;
}

byId("alike-more").addEventListener("click", () => {
  const hidden = chips.filter(({ button }) => button.hidden);
  all = true;
  settle();
  hidden.find(({ button }) => !button.hidden)?.button.focus();
});

// Names of the attributes that are asked for.
export const asked = () => chips.filter(pressed).map(({ name }) => name);

// The field `attributes` of a search, "" where none is asked for.
export const weights = () => asked().map((name) => `${name}:${WEIGHT}`).join(",");

// Whether they alone decide, whatever else the garment looks like.
export const alone = () => asked().length > 0 && byId("alike-alone").checked;

// In words: "the same neckline and pattern".
export const words = () => `the same ${listed(asked().map(spoken))}`;

// What is chosen, to be kept in an address: names, and whether they alone decide.
export const state = () => ({ names: asked(), alone: alone() });

// Choose what `state` gave; attributes that are gone are passed over.
export function restore({ names, alone: only }) {
  for (const { name, button } of chips) button.setAttribute("aria-pressed", names.includes(name));
  byId(only ? "alike-alone" : "alike-garment").checked = true;
  settle();
}
