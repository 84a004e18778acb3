// Filters made from the gallery's own columns, and the expression that the service reads.
//
// A column with few texts is a choice, a number a range, true and false a yes or no; other texts are searched for a word.
// Texts that differ in capitals alone are one choice.

import { byId, make } from "./elements.js";
import { spoken } from "./words.js";

const FIRST = ["category", "type", "color", "colour", "brand", "price", "size", "gender", "material", "season"];
const SHOWN = 10; // columns at once; the others are one step further
const LONG = 12; // choices from which a column gets a field that narrows them

const NARROW = matchMedia("(max-width: 59.99rem)");
let groups = []; // {column, terms(), clear(), state(), restore(state)} of every column

// Draw the filters of these columns, as GET /v1/gallery gives them; `changed` is called when one changes.
export function offer(columns, changed) {
  const place = ({ name }) => { const at = FIRST.indexOf(name.toLowerCase()); return at < 0 ? FIRST.length : at; };
  const drawn = [...columns].sort((one, other) => place(one) - place(other)).map((column) => [column, group(column)]).filter(([, made]) => made);
  groups = drawn.map(([column, made]) => ({ column, ...made }));
  const details = groups.map(({ column, body, terms }) => {
    const whole = make("details"), summary = make("summary"), chosen = make("span", { className: "quiet" });
    summary.append(make("span", { textContent: spoken(column.name) }), chosen);
    whole.append(summary, body);
    const told = () => { chosen.textContent = terms().map(({ words }) => words).join(", "); };
    whole.addEventListener("change", (event) => {
      if (event.target.type === "search") return; // narrows the choices, chooses nothing
      told();
      changed();
    });
    whole.refresh = told;
    return whole;
  });
  for (const [number, each] of groups.entries()) each.refresh = details[number].refresh;
  const others = make("details", { className: "others" });
  others.append(make("summary", { textContent: `${details.length - SHOWN} more columns` }), ...details.slice(SHOWN));
  byId("columns").replaceChildren(...details.slice(0, SHOWN), ...(details.length > SHOWN ? [others] : []));
  byId("filters").hidden = !details.length;
  settle();
}

// Beside the matches where there is room, else a sheet from below that a button opens.
function settle() {
  if (NARROW.matches) byId("filters").popover = "auto";
  else byId("filters").removeAttribute("popover");
  byId("open-filters").hidden = !NARROW.matches || !groups.length;
}
NARROW.addEventListener("change", settle);

// What is chosen, to be kept in an address: {column: state}.
export function state() {
  return Object.fromEntries(groups.filter(({ terms }) => terms().length).map((each) => [each.column.name, each.state()]));
}

// Choose what `state` gave; columns that are gone are passed over.
export function restore(states) {
  for (const each of groups) {
    each.clear();
    const own = states[each.column.name];
    if (own !== undefined) each.restore(own);
    each.refresh();
  }
}

// The filter expression, or null. Quoted as JSON, which the service's filters read.
export function expression() {
  return groups.flatMap(({ terms }) => terms().map(({ term }) => term)).join(" and ") || null;
}

// One button for each filter in use; pressing it removes the filter.
export function show(changed) {
  const used = groups.filter(({ terms }) => terms().length);
  byId("chosen").replaceChildren(...used.map((each) => {
    const words = `${spoken(each.column.name)}: ${each.terms().map((term) => term.words).join(", ")}`;
    const button = make("button", { type: "button", className: "chip", textContent: `${words} ✕`, ariaLabel: `${words}, remove this filter` });
    button.addEventListener("click", () => { each.clear(); each.refresh(); changed(); });
    return button;
  }));
  byId("chosen").hidden = !used.length;
  byId("clear").hidden = !used.length;
  byId("open-filters").textContent = used.length ? `Filters (${used.length})` : "Filters";
}

export function clear() {
  for (const each of groups) { each.clear(); each.refresh(); }
}

const named = ({ name }) => `item[${JSON.stringify(name)}]`;

function group(column) {
  if (column.values) return choices(column);
  if (column.kind === "boolean") return yesOrNo(column);
  if (["integer", "number"].includes(column.kind)) return range(column);
  if (["string", "list", "mixed"].includes(column.kind)) return word(column);
  return null;
}

function choices(column) {
  const body = make("div", { className: "choose" }), list = make("div", { className: "chips" });
  const ticks = alike(column).map(({ values, count }) => {
    const label = make("label", { className: "chip" }), tick = make("input", { type: "checkbox", className: "unseen", value: values[0] });
    label.append(tick, make("span", { textContent: values[0] }), make("span", { className: "many", textContent: count ?? "" }));
    list.append(label);
    tick.values = values;
    return tick;
  });
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", spoken(column.name));
  if (ticks.length > LONG) body.append(narrowing(column, ticks));
  body.append(list);
  const chosen = () => ticks.filter((tick) => tick.checked).map((tick) => tick.value);
  const spellings = () => ticks.filter((tick) => tick.checked).flatMap((tick) => tick.values);
  const term = () => (column.kind === "list"
    ? `(${spellings().map((value) => `${JSON.stringify(value)} in ${named(column)}`).join(" or ")})`
    : `${named(column)} in ${JSON.stringify(spellings())}`);
  return {
    body,
    terms: () => (chosen().length ? [{ term: term(), words: chosen().join(", ") }] : []),
    clear: () => ticks.forEach((tick) => { tick.checked = false; }),
    state: chosen,
    restore: (values) => ticks.forEach((tick) => { tick.checked = [values].flat().includes(tick.value); }),
  };
}

// Values that differ in capitals alone, together: {values, count}, the most frequent spelling first.
function alike({ values, counts }) {
  const groups = new Map();
  values.forEach((value, at) => {
    const key = value.toLowerCase(), group = groups.get(key) ?? { values: [], count: counts ? 0 : null };
    group.values.push(value);
    if (counts) group.count += counts[at];
    groups.set(key, group);
  });
  return [...groups.values()].sort((one, other) => other.count - one.count);
}

function narrowing(column, ticks) {
  const field = make("input", { type: "search", placeholder: "Narrow these", ariaLabel: `Narrow the choices of ${spoken(column.name)}` });
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const tick of ticks) tick.parentElement.hidden = !tick.checked && !tick.value.toLowerCase().includes(wanted);
  });
  return field;
}

function yesOrNo(column) {
  const select = make("select", { ariaLabel: spoken(column.name) });
  select.append(new Option("any", ""), new Option("yes", "true"), new Option("no", "false"));
  return {
    body: select,
    terms: () => (select.value ? [{ term: `${named(column)} == ${select.value}`, words: select.selectedOptions[0].text }] : []),
    clear: () => { select.value = ""; },
    state: () => select.value,
    restore: (value) => { select.value = ["true", "false"].includes(value) ? value : ""; },
  };
}

function range(column) {
  const body = make("div", { className: "range" });
  const whole = column.kind === "integer";
  const [from, to] = [["from", column.min, ">="], ["to", column.max, "<="]].map(([words, bound, sign]) => {
    const label = make("label", { textContent: `${words} ` });
    const field = make("input", { type: "number", step: whole ? 1 : "any", inputMode: "decimal", placeholder: bound ?? "" });
    label.append(field);
    body.append(label);
    return { field, words, sign };
  });
  const filled = () => [from, to].filter(({ field }) => field.value !== "" && Number.isFinite(field.valueAsNumber));
  return {
    body,
    terms: () => {
      if (!filled().length) return [];
      const term = filled().map(({ field, sign }) => `${named(column)} ${sign} ${field.valueAsNumber}`).join(" and ");
      return [{ term, words: filled().map(({ field, words }) => `${words} ${field.value}`).join(" ") }];
    },
    clear: () => { from.field.value = to.field.value = ""; },
    state: () => [from.field.value, to.field.value],
    restore: (values) => { [from.field.value, to.field.value] = [0, 1].map((at) => String(values[at] ?? "")); },
  };
}

function word(column) {
  const field = make("input", { type: "text", placeholder: "contains …", autocomplete: "off", ariaLabel: `${spoken(column.name)} contains` });
  const text = () => field.value.trim();
  return {
    body: field,
    terms: () => (text() ? [{ term: `${JSON.stringify(text())} in ${named(column)}`, words: `“${text()}”` }] : []),
    clear: () => { field.value = ""; },
    state: text,
    restore: (value) => { field.value = String(value); },
  };
}
