// The page about the HTTP interface, made of the server's OpenAPI document. Nothing is loaded from elsewhere.

import { byId, element, say } from "./dom.js";

show();

async function show() {
  try {
    const response = await fetch("openapi.json");
    const { info, paths, components } = await response.json();
    byId("description").textContent = info.description.replaceAll("`", "");
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => section(method, path, operation, components.schemas)),
    );
    byId("paths").replaceChildren(...operations);
  } catch {
    say(byId("outage"), "The server does not answer. See whether lowshot serve still runs, then load this page again.");
  }
}

function section(method, path, operation, schemas) {
  return element(
    "section",
    { class: "operation" },
    element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`)),
    element("p", {}, (operation.description ?? "").replaceAll("`", "")),
    ...list("Asked with", [...(operation.parameters ?? []).map(parameter), ...bodies(operation.requestBody, schemas)]),
    ...list("Answered with", answers(operation.responses ?? {}, schemas)),
  );
}

function list(title, items) {
  return items.length ? [element("h3", {}, title), element("ul", {}, ...items)] : [];
}

function parameter({ name, in: place, schema, description }) {
  const range = [schema.minimum, schema.maximum].every((end) => end !== undefined)
    ? `${schema.minimum} to ${schema.maximum}`
    : null;
  const usual = schema.default === undefined ? null : `${schema.default} if not given`;
  return item(name, [place, schema.type, range, usual, description]);
}

function bodies(body, schemas) {
  return Object.entries(body?.content ?? {}).map(([type, { schema }]) => item(type, [fieldsOf(schema, schemas)]));
}

/** The answers of a path: those with the same content, as errors are, in one line. */
function answers(responses, schemas) {
  const statuses = new Map(); // what is in an answer -> its statuses
  for (const [status, { content = {} }] of Object.entries(responses)) {
    const inside = Object.entries(content).map(([type, { schema }]) =>
      type === "application/json" && schema ? fieldsOf(schema, schemas) : type,
    );
    statuses.set(inside.join(", "), [...(statuses.get(inside.join(", ")) ?? []), status]);
  }
  return Array.from(statuses, ([inside, some]) => item(some.join(", "), [inside]));
}

function item(name, parts) {
  const words = parts.filter(Boolean).join(", ");
  return element("li", {}, element("code", {}, name), words ? ` ${words}` : "");
}

/** A schema in one line: "{adapter, predictions: [{classes: ...}], milliseconds}". */
function fieldsOf(schema, schemas) {
  const { properties, items, anyOf, type } = resolved(schema, schemas);
  if (properties) return `{${Object.entries(properties).map(([name, each]) => field(name, each, schemas)).join(", ")}}`;
  if (items) return `[${fieldsOf(items, schemas)}]`;
  if (anyOf) return fieldsOf(anyOf[0], schemas);
  return type ?? "";
}

function field(name, schema, schemas) {
  const inside = fieldsOf(schema, schemas);
  return /^[{[]/.test(inside) ? `${name}: ${inside}` : name;
}

function resolved(schema, schemas) {
  return schema.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
}
