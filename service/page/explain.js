// What decided a match, asked for when it is opened.

import { Problem, ask } from "./api.js";

const GONE = 404; // the service remembers no searches, or not this one any more

// {evidence, evidence_before, heatmaps, matcher} of one match; `form` is the search that found it, to be asked again where
// the service does not remember it.
export async function explain(answer, match, form) {
  try {
    return await ask(`/v1/search/${encodeURIComponent(answer.request_id)}/matches/${encodeURIComponent(match.id)}/explanation`);
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== GONE) throw error;
  }
  form.set("filter", `id == ${JSON.stringify(match.id)}`);
  for (const [name, value] of [["top_k", 1], ["candidates", 1], ["group_by", "item"], ["explain", true], ["box", answer.query.box.join(",")]]) form.set(name, value);
  for (const name of ["min_probability", "matcher"]) form.delete(name); // attributes alone explain nothing
  const { matches: [found] } = await ask("/v1/search", { method: "POST", form });
  return found ? { ...found, matcher: found.stage } : null;
}
