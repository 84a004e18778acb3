// Who is asking: the key that a service may want, and the galleries that it opens.

import { Problem, ask, chooseGallery, onSignIn } from "./api.js";
import { byId } from "./elements.js";
import * as recent from "./recent.js";

const PARAMETER = "gallery"; // in the page's own address, so that a link or a reload keeps the choice
let answerDialog = null; // ends the question that the dialog asks
let asking = null; // the promise of that question; several requests share it

// Learn what this browser may do; asks for a key where the service wants one. `changed` is called for each new choice.
export async function enter(changed) {
  onSignIn(askForKey);
  byId("gallery-name").addEventListener("change", () => { choose(byId("gallery-name").value); changed(); });
  byId("sign-in").addEventListener("click", async () => { if (await askForKey()) changed(); });
  byId("sign-out").addEventListener("click", leave);
  const session = await look();
  if (session?.keys_required && !session.role) await askForKey();
}

// End the session. A fresh page has nothing of what was found: no matches, photos, filters or gallery names.
async function leave() {
  try {
    await ask("/v1/session", { method: "DELETE", signIn: false });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    byId("gallery").textContent = `You are still signed in. ${error.words.title}. ${error.words.detail}`;
    return;
  }
  await recent.clear();
  location.assign(location.pathname);
}

// Read the session and show it. null where the service knows no keys.
async function look() {
  const session = await ask("/v1/session", { signIn: false }).catch((error) => {
    if (!(error instanceof Problem)) throw error;
    return null; // a search will say it
  });
  const signedIn = Boolean(session?.keys_required && session.role), names = session?.galleries ?? [];
  byId("sign-in").hidden = !session?.keys_required || signedIn;
  byId("sign-out").hidden = !signedIn;
  byId("chooser").hidden = names.length < 2;
  byId("gallery-name").replaceChildren(...names.map((name) => new Option(name)));
  const asked = new URLSearchParams(location.search).get(PARAMETER);
  if (names.includes(asked)) choose(asked);
  else if (names.length) choose(names[0], { inAddress: false });
  else choose(asked ?? "", { inAddress: false });
  return session;
}

function choose(name, { inAddress = true } = {}) {
  byId("gallery-name").value = name;
  chooseGallery(name);
  if (!inAddress) return;
  const address = new URL(location.href);
  address.searchParams.set(PARAMETER, name);
  history.replaceState(null, "", address);
}

// Open the dialog. True once the service has taken a key, false when the user would rather not.
function askForKey() {
  asking ??= new Promise((resolve) => { answerDialog = resolve; }).finally(() => { asking = null; });
  if (byId("access").open) return asking; // another request was first, and the user may be typing
  byId("access-error").textContent = "";
  byId("key").value = "";
  byId("access").showModal();
  return asking;
}

byId("access").addEventListener("close", () => answerDialog?.(false));
byId("access-cancel").addEventListener("click", () => byId("access").close());
byId("access").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("access-go").disabled = true;
  try {
    await ask("/v1/session", { method: "POST", json: { key: byId("key").value.trim() }, signIn: false });
    await look();
    answerDialog?.(true);
    byId("access").close();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const refused = [401, 403, 422].includes(error.status);
    byId("access-error").textContent = refused ? "This key is not known here. Check it for missing letters, or ask for a new one." : `${error.words.title}. ${error.words.detail}`;
    byId("key").focus();
  } finally {
    byId("access-go").disabled = false;
  }
});
