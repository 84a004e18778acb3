// "Only items whose COLUMN is VALUE", made into a filter expression of the service.

const byId = (id) => document.getElementById(id);
const NUMBERS = ["integer", "number"];
let kinds = {};

export function offer(columns) {
  kinds = Object.fromEntries(columns.map(({ name, kind }) => [name, kind]));
  byId("column").append(...columns.map(({ name }) => new Option(name.replaceAll("_", " "), name)));
}

// The filter expression, or null. Quoted as JSON, which the service's filters read.
export function expression() {
  const column = byId("column").value, relation = byId("relation").value, text = byId("value").value.trim();
  if (!column || !text) return null;
  const named = `item[${JSON.stringify(column)}]`;
  const number = NUMBERS.includes(kinds[column]) && Number.isFinite(Number(text));
  const value = number || (kinds[column] === "boolean" && /^(true|false)$/.test(text)) ? text : JSON.stringify(text);
  return relation === "contains" ? `${value} in ${named}` : `${named} ${relation} ${value}`;
}

// Offer the values that the last matches have in the chosen column.
export function suggest(matches) {
  const column = byId("column").value;
  const values = new Set(matches.map((match) => match.metadata[column]).filter((value) => value !== null && value !== undefined));
  byId("values").replaceChildren(...[...values].sort().map((value) => new Option(value)));
}
