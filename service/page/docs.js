"use strict";

const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

// What goes wrong while it is asked for is said on the page, what goes wrong while it is drawn in the browser's log.
fetch("openapi.json").then((response) => response.json()).catch(() => null).then((api) => {
  const place = document.getElementById("operations");
  if (!api) { place.replaceChildren(make("p", "The service does not answer.")); return; }
  const operations = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods)
    .map(([method, operation]) => draw(api, path, method, operation)));
  operations[0].open = true;
  place.replaceChildren(...operations);
});

function draw(api, path, method, operation) {
  const whole = make("details"), summary = make("summary"), body = make("div");
  summary.append(make("span", method.toUpperCase(), "method"), ` ${path} `, make("span", operation.summary, "quiet"));
  body.append(prose(operation.description));
  const form = operation.requestBody && resolved(api, Object.values(operation.requestBody.content)[0].schema);
  if (form && form.properties) body.append(make("h2", "Form fields"), table(
    ["field", "what it is", "default", "possible"],
    Object.entries(form.properties).map(([name, field]) => [
      name + ((form.required || []).includes(name) ? " (required)" : ""), field.description, shown(field.default), possible(field),
    ])));
  if (path === "/v1/search") body.append(scrolling(make("pre", `curl -F image=@photo.jpg ${new URL("search", location.href)}`), "From a shell"));
  body.append(make("h2", "Answers"), table(
    ["status", "when", "form"],
    Object.entries(operation.responses).map(([status, answer]) => {
      const [type, content] = Object.entries(answer.content || {})[0] || ["", {}];
      const name = content.schema && content.schema.$ref && content.schema.$ref.split("/").pop();
      return [status, answer.description, name ? `${name} (${type})` : type];
    })));
  const good = (Object.entries(operation.responses).find(([status]) => status.startsWith("2")) || ["", {}])[1].content;
  const json = good && good["application/json"];
  if (json) body.append(scrolling(make("pre", JSON.stringify(json.example || example(api, json.schema), null, 2)), "Example of an answer"));
  whole.append(summary, body);
  return whole;
}

function table(head, rows) {
  const scroll = scrolling(make("div", undefined, "scroll"), head.join(", ")), whole = make("table");
  const line = (cells, tag) => { const row = make("tr"); row.append(...cells.map((cell) => make(tag, cell))); return row; };
  whole.append(line(head, "th"), ...rows.map((row) => line(row, "td")));
  scroll.append(whole);
  return scroll;
}

// A text whose `names` are set as code.
function prose(text) {
  const whole = make("p");
  whole.append(...text.split("`").map((part, at) => (at % 2 ? make("code", part) : part)));
  return whole;
}

// A part that may scroll sideways, so that a keyboard can scroll it too.
function scrolling(element, label) {
  element.tabIndex = 0;
  element.setAttribute("role", "region");
  element.setAttribute("aria-label", label);
  return element;
}

const shown = (value) => (value === undefined || value === null ? "" : String(value));

function possible(field) {
  if (field.enum) return field.enum.join(" | ");
  const inner = (field.anyOf || [field]).find((one) => one.type !== "null");
  if (inner.minimum !== undefined) return `${inner.type}, ${inner.minimum} to ${inner.maximum}`;
  return inner.format || inner.type;
}

const resolved = (api, schema) => (schema.$ref ? resolved(api, api.components.schemas[schema.$ref.split("/").pop()]) : schema);

// An example of a schema, put together from the examples of its fields.
function example(api, schema) {
  if (schema.$ref) return example(api, resolved(api, schema));
  if (schema.examples) return schema.examples[0];
  if (schema.const !== undefined) return schema.const;
  if (schema.properties) return Object.fromEntries(
    Object.entries(schema.properties).map(([name, field]) => [name, example(api, field)]));
  if (schema.type === "array") return schema.items ? [example(api, schema.items)] : [];
  return schema.default === undefined ? null : schema.default;
}
