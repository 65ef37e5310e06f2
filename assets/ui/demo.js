"use strict";

// Builds an element; text always goes in as text, so that no answer can become markup.
function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function outputOf(form) {
  return form.querySelector(".output");
}

async function request(method, path, body) {
  const headers = {};
  const token = byId("token").value.trim();
  if (token) headers.Authorization = "Bearer " + token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch("." + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.ok) return answer;
  throw new Error(await reason(answer));
}

async function json(method, path, body) {
  return (await request(method, path, body)).json();
}

// What a refusal says, in one line.
async function reason(answer) {
  const text = await answer.text();
  let detail = text;
  try { detail = JSON.parse(text).detail; } catch { /* plain text */ }
  if (Array.isArray(detail)) detail = detail.map((item) => item.loc.slice(1).join(".") + ": " + item.msg).join("; ");
  const wait = answer.headers.get("retry-after");
  return answer.status + " " + detail + (wait ? " (try again in " + wait + " s)" : "");
}

// Runs an action of a card: its button waits, its failure is shown in its place.
async function run(form, action) {
  const output = outputOf(form);
  const buttons = [...form.querySelectorAll("button")].filter((button) => !button.disabled);
  buttons.forEach((button) => { button.disabled = true; });
  output.replaceChildren(el("p", { class: "muted" }, "Working…"));
  try {
    await action(output);
  } catch (error) {
    output.replaceChildren(el("p", { class: "bad" }, error.message));
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

function onSubmit(id, action) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    run(event.currentTarget, action);
  });
}

function field(form, name) {
  return byId(form).elements.namedItem(name);
}

// An id that takes the reader to the cards that use one.
function idLink(id) {
  const use = () => {
    field("lineage", "node_id").value = id;
    field("events", "node_id").value = id;
    byId("lineage").scrollIntoView({ behavior: "smooth" });
  };
  return el("button", { type: "button", class: "plain", onclick: use, title: "Use this node below" }, id.slice(0, 8));
}

function shownJson(value) {
  return el("pre", {}, JSON.stringify(value, null, 2));
}

function number(value, places) {
  return typeof value === "number" ? value.toFixed(places) : "unknown";
}

function hitView(hit) {
  const title = hit.props.title || hit.props.name || "";
  return el("div", { class: "hit" },
    el("p", {}, idLink(hit.id), el("strong", {}, hit.classes.join(", ")), " ", title,
      el("span", { class: "muted" }, "  score " + number(hit.similarity, 4),
        hit.vector_similarity === undefined ? "" : ", cosine " + number(hit.vector_similarity, 4))),
    el("p", {}, hit.text));
}

onSubmit("search", async (output) => {
  const found = await json("POST", "/search", {
    query: field("search", "query").value,
    top_k: Number(field("search", "top_k").value) || 5,
    use_hybrid: field("search", "use_hybrid").checked,
    use_weighted_score: field("search", "use_weighted_score").checked,
  });
  output.replaceChildren(el("p", { class: "muted" }, found.count + " hits"), ...found.results.map(hitView));
});

function citationView(citation, index) {
  return el("div", { class: "hit" },
    el("p", {}, "[" + index + "] ", idLink(citation.node_id), citation.classes.join(", "),
      el("span", { class: "muted" }, "  age " + number(citation.age_days, 2) + " days, drift " + number(citation.drift_score, 3))));
}

function answerView(answer) {
  return [
    el("p", {}, answer.answer),
    el("p", { class: "muted" }, "confidence " + number(answer.confidence, 3)),
    ...answer.citations.map(citationView),
  ];
}

// Reads an event stream frame by frame, however the network cuts it.
async function* frames(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const frame = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const data = frame.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}

onSubmit("ask", async (output) => {
  const question = { question: field("ask", "question").value };
  if (!field("ask", "stream").checked) {
    output.replaceChildren(...answerView(await json("POST", "/ask", question)));
    return;
  }
  const text = el("p", {});
  const answer = await request("POST", "/ask/stream", question);
  output.replaceChildren(text);
  let ended = false;
  for await (const frame of frames(answer)) {
    if (frame.type === "token") text.append(frame.text);
    if (frame.type === "final") { output.replaceChildren(...answerView(frame)); ended = true; }
    if (frame.type === "error") throw new Error(frame.message);
  }
  if (!ended) throw new Error("The answer broke off.");
});

onSubmit("nodes", async (output) => {
  const value = (name) => field("nodes", name).value.trim();
  const props = { text: value("text") };
  if (value("title")) props.title = value("title");
  const classes = value("classes").split(",").map((word) => word.trim()).filter(Boolean);
  const created = await json("POST", "/nodes", { classes, props });
  output.replaceChildren(el("p", { class: "good" }, "Created ", idLink(created.id)));
});

const PAGE = 20;
let offset = 0;

async function listNodes(output) {
  const list = await json("GET", "/nodes?include=props&limit=" + PAGE + "&offset=" + offset);
  const rows = list.nodes.map((node) => {
    const props = node.props || {};
    const row = el("div", { class: "hit" });
    const remove = () => {
      if (!confirm("Delete " + node.id + "?")) return;
      run(byId("nodes"), async (place) => {
        await json("DELETE", "/nodes/" + node.id);
        await listNodes(place);
      });
    };
    row.append(el("p", {}, idLink(node.id), el("strong", {}, node.classes.join(", ")), " ",
      String(props.title || props.name || props.text || "").slice(0, 120),
      el("span", { class: "muted" }, "  " + node.embedding_status)),
      el("button", { type: "button", class: "plain", onclick: remove }, "Delete"));
    return row;
  });
  const last = Math.min(offset + list.nodes.length, list.total);
  output.replaceChildren(el("p", { class: "muted" }, (list.nodes.length ? offset + 1 : offset) + " to " + last + " of " + list.total), ...rows);
  byId("more").hidden = last >= list.total;
}

byId("list").addEventListener("click", () => { offset = 0; run(byId("nodes"), listNodes); });
byId("more").addEventListener("click", () => { offset += PAGE; run(byId("nodes"), listNodes); });

onSubmit("events", async (output) => {
  const node = field("events", "node_id").value.trim();
  const list = await json("GET", "/events?limit=50" + (node ? "&node_id=" + encodeURIComponent(node) : ""));
  output.replaceChildren(el("p", { class: "muted" }, list.count + " events"), ...list.events.map((event) =>
    el("div", { class: "hit" },
      el("p", {}, el("strong", {}, event.type), " ", event.node_id ? idLink(event.node_id) : "",
        el("span", { class: "muted" }, " " + event.created_at)),
      shownJson(event.payload))));
});

function nodeOfLineage() {
  const id = field("lineage", "node_id").value.trim();
  if (!id) throw new Error("Which node?");
  return encodeURIComponent(id);
}

onSubmit("lineage", async (output) => {
  const depth = Number(field("lineage", "max_depth").value) || 5;
  const lineage = await json("GET", "/lineage/" + nodeOfLineage() + "?max_depth=" + depth);
  output.replaceChildren(el("p", { class: "muted" }, lineage.depth + " ancestors"), ...lineage.ancestors.map((ancestor) =>
    el("div", { class: "hit" },
      el("p", {}, idLink(ancestor.id), el("strong", {}, ancestor.classes.join(", ")), " ",
        String(ancestor.props.title || ancestor.props.name || ancestor.props.text || "").slice(0, 120),
        el("span", { class: "muted" }, "  " + ancestor.depth + " steps away")))));
});

byId("refresh").addEventListener("click", () => run(byId("lineage"), async (output) => {
  output.replaceChildren(shownJson(await json("POST", "/nodes/" + nodeOfLineage() + "/refresh")));
}));

byId("show").addEventListener("click", () => run(byId("lineage"), async (output) => {
  output.replaceChildren(shownJson(await json("GET", "/nodes/" + nodeOfLineage())));
}));

json("GET", "/health")
  .then((health) => { byId("health").textContent = "version " + health.version + ", " + health.status + ", answers by " + (health.llm_backend || "nobody"); })
  .catch((error) => { byId("health").textContent = "The server does not answer: " + error.message; });
