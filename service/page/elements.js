// Elements of the page: found by id, made, or made for a drawing.

export const byId = (id) => document.getElementById(id);
export const make = (tag, values = {}) => Object.assign(document.createElement(tag), values);

export function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
