"use strict";

// Builds an element; text always goes in as text, so that no answer can become markup.
function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function schemaName(schema) {
  return schema && schema.$ref ? schema.$ref.split("/").pop() : null;
}

// One line for the type of a schema.
function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return "any";
  if (schema.$ref) return schemaName(schema);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  const types = [].concat(schema.type);
  const text = types.map((type) => (type === "array" ? "[" + typeOf(schema.items) + "]" : type)).join(" | ");
  return schema.format ? text + " (" + schema.format + ")" : text;
}

function boundsOf(schema) {
  const names = {
    minLength: "from {} characters", maxLength: "to {} characters", minItems: "from {} items",
    maxItems: "to {} items", minimum: "≥ {}", maximum: "≤ {}", default: "default {}",
  };
  const bounds = Object.entries(names)
    .filter(([key]) => schema[key] !== undefined)
    .map(([key, text]) => text.replace("{}", JSON.stringify(schema[key])));
  if (schema.enum) bounds.push("one of " + schema.enum.filter((word) => word !== null).join(", "));
  if (schema.description) bounds.push(schema.description);
  return bounds.join("; ");
}

function schemaTable(schema) {
  if (!schema.properties) return el("p", { class: "muted" }, schema.description || typeOf(schema));
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties).map(([name, property]) =>
    el("tr", {},
      el("td", {}, el("code", {}, name), required.has(name) ? " *" : ""),
      el("td", {}, typeOf(property)),
      el("td", { class: "muted" }, boundsOf(property))));
  return el("table", {}, el("tbody", {}, ...rows));
}

function exampleOf(schema) {
  if (schema.example !== undefined) return schema.example;
  const filled = {};
  for (const name of schema.required || []) filled[name] = "";
  return filled;
}

async function send(operation, form, output, button) {
  output.replaceChildren(el("span", { class: "muted" }, "Sending…"));
  button.disabled = true;
  try {
    const query = new URLSearchParams();
    let path = operation.path;
    for (const { parameter, input } of form.parameters) {
      const value = input.value;
      if (parameter.in === "path") path = path.replace("{" + parameter.name + "}", encodeURIComponent(value));
      else if (value !== "") query.append(parameter.name, value);
    }
    const headers = {};
    const token = byId("token").value.trim();
    if (token) headers.Authorization = "Bearer " + token;
    if (form.body) headers["Content-Type"] = "application/json";
    const search = query.toString();
    const started = performance.now();
    const answer = await fetch("." + path + (search ? "?" + search : ""), {
      method: operation.method.toUpperCase(), headers, body: form.body ? form.body.value : undefined,
    });
    let text = await answer.text();
    const took = Math.round(performance.now() - started);
    const kind = answer.headers.get("content-type") || "";
    if (kind.startsWith("application/json")) {
      try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
    }
    const notes = ["x-request-id", "retry-after", "x-ratelimit-remaining"]
      .filter((name) => answer.headers.has(name))
      .map((name) => name + ": " + answer.headers.get(name));
    output.replaceChildren(
      el("span", { class: "status " + (answer.ok ? "good" : "bad") }, String(answer.status)),
      el("span", { class: "muted" }, " " + took + " ms, " + text.length + " characters. " + notes.join(", ")),
      el("pre", {}, text));
  } catch (error) {
    output.replaceChildren(el("span", { class: "bad" }, "No answer: " + error.message));
  } finally {
    button.disabled = false;
  }
}

function tryForm(operation, schemas) {
  const form = { parameters: [], body: null };
  const fields = [];
  for (const parameter of operation.parameters || []) {
    const input = el("input", { autocomplete: "off", required: parameter.required });
    form.parameters.push({ parameter, input });
    fields.push(el("label", {}, el("code", {}, parameter.name), parameter.required ? " * " : " ",
      el("span", { class: "muted" }, [parameter.in, typeOf(parameter.schema), parameter.description].filter(Boolean).join("; ")), input));
  }
  if (operation.requestBody) {
    const name = schemaName(operation.requestBody.content["application/json"].schema);
    form.body = el("textarea", { spellcheck: "false", "aria-label": "Body" });
    form.body.value = JSON.stringify(exampleOf(schemas[name]), null, 2);
    fields.push(el("h3", {}, "Body: ", name), schemaTable(schemas[name]), form.body);
  }
  const output = el("div", { "aria-live": "polite" });
  const button = el("button", { type: "submit" }, "Send");
  const submit = (event) => { event.preventDefault(); send(operation, form, output, button); };
  return el("form", { onsubmit: submit }, ...fields, button, output);
}

function answers(operation) {
  const rows = Object.entries(operation.responses).map(([status, response]) => {
    const content = Object.entries(response.content || {});
    const kinds = content.map(([kind, { schema }]) => schemaName(schema) || kind).join(", ");
    return el("tr", {}, el("td", {}, status), el("td", {}, response.description), el("td", {}, kinds));
  });
  return el("table", {}, el("tbody", {}, ...rows));
}

function card(operation, schemas) {
  const details = el("details", {},
    el("summary", {},
      el("span", { class: "method " + operation.method }, operation.method.toUpperCase()),
      el("code", {}, operation.path),
      el("span", { class: "muted" }, operation.summary, operation.security ? " (token)" : "")));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      details.append(el("div", {}, tryForm(operation, schemas), el("h3", {}, "Answers"), answers(operation)));
    }
  });
  details.dataset.words = (operation.method + " " + operation.path + " " + operation.summary).toLowerCase();
  return details;
}

function show(api) {
  document.title = api.info.title + " API";
  byId("title").textContent = document.title;
  byId("version").textContent = "version " + api.info.version;
  const schemas = api.components.schemas;
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = (operation.tags || ["Other"])[0];
      if (!sections.has(tag)) sections.set(tag, []);
      sections.get(tag).push(card({ ...operation, path, method }, schemas));
    }
  }
  byId("routes").replaceChildren(...[...sections].map(([tag, cards]) =>
    el("section", {}, el("h2", {}, tag), ...cards)));
  byId("schemas").replaceChildren(...Object.entries(schemas).map(([name, schema]) =>
    el("details", {}, el("summary", {}, el("code", {}, name)), el("div", {}, schemaTable(schema)))));
}

byId("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of byId("routes").querySelectorAll("section")) {
    let shown = 0;
    for (const details of section.querySelectorAll("details")) {
      details.hidden = !words.every((word) => details.dataset.words.includes(word));
      shown += details.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
  }
});

fetch("openapi.json")
  .then((answer) => {
    if (!answer.ok) throw new Error("status " + answer.status);
    return answer.json();
  })
  .then(show)
  .catch((error) => {
    byId("routes").replaceChildren(el("p", { class: "bad" }, "Cannot read openapi.json: " + error.message));
  });
