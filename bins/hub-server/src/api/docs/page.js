// Shows /openapi.json, and sends requests to the server it came from. It asks nobody else.
"use strict";

/** Makes an element. Texts become text, so nothing of the document is ever read as HTML. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") made[key] = value;
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

/** Puts words that stand in back quotes into code. */
function prose(text) {
  return (text ?? "").split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

/** Follows a reference of the document. */
function resolve(api, schema) {
  if (!schema?.$ref) return schema ?? {};
  const steps = schema.$ref.slice(2).split("/");
  return steps.reduce((value, step) => value?.[step.replaceAll("~1", "/").replaceAll("~0", "~")], api) ?? {};
}

const isNull = (schema) => schema.type === "null";

/** The schemas of which one fits, without the one for nothing. */
function choices(schema) {
  return (schema.anyOf ?? schema.oneOf ?? []).filter((choice) => !isNull(choice) && !choice.required);
}

/** Says in a few words what a value may be. */
function typeOf(api, given) {
  const schema = resolve(api, given);
  if (schema === true || !schema) return "anything";
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.filter((value) => value !== null).map((value) => JSON.stringify(value)).join(" | ");
  const among = choices(schema);
  if (among.length) return [...new Set(among.map((choice) => typeOf(api, choice)))].join(" | ");
  const types = [schema.type].flat().filter((type) => type && type !== "null");
  if (types.includes("array")) return schema.maxItems === 0 ? "[]" : `${typeOf(api, schema.items ?? {})}[]`;
  return (types.join(" | ") || "anything") + limits(schema);
}

function limits(schema) {
  const { minimum: least, maximum: most } = schema;
  // Limits that only say how wide a number of the server is tell a reader nothing.
  const isTold = (limit) => limit !== undefined && Math.abs(limit) < 2 ** 31;
  if (isTold(least) && isTold(most)) return ` ${least} to ${most}`;
  if (isTold(least) && least !== 0) return ` from ${least}`;
  return "";
}

/** Finds the schemas with fields inside a schema: its own, its elements', its choices'. */
function objects(api, given) {
  const schema = resolve(api, given);
  if (schema.properties) return [schema];
  if (schema.items) return objects(api, schema.items);
  return [...choices(schema), ...(schema.allOf ?? [])].flatMap((choice) => objects(api, choice));
}

/** Draws the fields of a schema; those that are not served are folded away. */
function fields(api, schema, isRequest, seen) {
  const needed = new Set(schema.required ?? []);
  const word = (name) => {
    if (isRequest) return needed.has(name) ? element("span", { class: "needed" }, " required") : null;
    return needed.has(name) ? null : element("span", { class: "faint" }, " not always");
  };
  const isServed = ([, field]) => !(field.description ?? "").startsWith("Not served:");
  const all = Object.entries(schema.properties);
  const served = all.filter(isServed);
  const unserved = all.filter((entry) => !isServed(entry));
  const rows = (entries) => entries.flatMap(([name, field]) => {
    const inside = objects(api, field).filter((object) => !seen.includes(object));
    const about = isServed([name, field]) ? field.description ?? resolve(api, field).description : null;
    const own = element("tr", {},
      element("td", {}, element("code", {}, name), word(name)),
      element("td", {}, element("span", { class: "type" }, typeOf(api, field)), about ? element("div", {}, prose(about)) : null));
    const folded = inside.map((object) => element("details", {},
      element("summary", {}, object.title ?? `The fields of ${name}`), fields(api, object, isRequest, [...seen, object])));
    return folded.length ? [own, element("tr", { class: "inside" }, element("td", { colspan: 2 }, folded))] : [own];
  });
  return [
    element("table", { class: "fields" }, rows(served)),
    unserved.length
      ? element("details", { class: "more" },
        element("summary", {}, `${unserved.length} more that are accepted with values that ask for nothing`),
        element("table", { class: "fields" }, rows(unserved)))
      : null,
  ];
}

/** Draws what a request or an answer consists of. */
function content(api, type, media, isRequest) {
  const found = objects(api, media.schema);
  return [
    element("p", { class: "faint" }, element("code", {}, type), ` ${found.length ? "" : typeOf(api, media.schema)}`),
    found.map((schema) => [
      found.length > 1 && schema.description ? element("p", {}, prose(schema.description)) : null,
      fields(api, schema, isRequest, [schema]),
    ]),
  ].flat(3);
}

/** Draws the answers of an operation; the body that errors share is drawn once. */
function answers(api, operation) {
  const all = Object.entries(operation.responses);
  const drawn = (response) => Object.entries(response.content ?? {}).flatMap(([type, media]) => content(api, type, media, false));
  const folded = (title, response) => element("details", { class: "more" }, element("summary", {}, title), drawn(response));
  const errors = all.filter(([status]) => status >= 400);
  const rows = errors.map(([status, response]) => element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, prose(response.description))));
  const bodies = Map.groupBy(errors, ([, response]) => JSON.stringify(response.content));
  return [
    all.filter(([status]) => status < 400).map(([status, response]) => folded(status, response)),
    element("h4", {}, "Errors"),
    element("table", { class: "fields statuses" }, rows),
    [...bodies.values()].map((shared) => folded(`The body of ${shared.map(([status]) => status).join(", ")}`, shared[0][1])),
  ].flat();
}

/** Draws the part that sends a request. */
function attempt(path, verb, operation) {
  const media = operation.requestBody?.content["application/json"];
  const examples = Object.entries(media?.examples ?? {});
  const body = media ? element("textarea", { spellcheck: "false", "aria-label": "The body" }) : null;
  const show = (at) => {
    body.value = JSON.stringify(examples[at]?.[1].value ?? {}, null, 2);
    body.rows = body.value.split("\n").length;
  };
  const inputs = (operation.parameters ?? []).map((parameter) => element("input", { name: parameter.name, value: parameter.example, placeholder: parameter.name, "aria-label": parameter.name }));
  const picker = examples.length > 1
    ? element("select", { "aria-label": "Example", onchange: (event) => show(event.target.selectedIndex) }, examples.map(([name]) => element("option", {}, name)))
    : null;
  const status = element("span", { class: "status", role: "status" });
  const output = element("pre", { hidden: true });
  const stop = element("button", { class: "plain", type: "button", hidden: true }, "Stop");
  const send = element("button", { type: "button" }, "Send");
  send.onclick = async () => {
    const control = new AbortController();
    stop.onclick = () => control.abort();
    stop.hidden = false;
    send.disabled = true;
    output.hidden = false;
    output.textContent = "";
    status.className = "status";
    status.textContent = "…";
    const target = inputs.reduce((path, input) => path.replace(`{${input.name}}`, encodeURIComponent(input.value)), path);
    const key = document.getElementById("key").value;
    const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
    try {
      const response = await fetch(target, { method: verb.toUpperCase(), headers, body: body?.value, signal: control.signal });
      status.classList.toggle("bad", !response.ok);
      status.textContent = `${response.status} ${response.statusText}`;
      await read(response, output);
    } catch (error) {
      const isStopped = error.name === "AbortError";
      status.classList.toggle("bad", !isStopped);
      status.textContent = isStopped ? "Stopped" : `The server was not reached: ${error.message}`;
    }
    send.disabled = false;
    stop.hidden = true;
  };
  if (body) show(0);
  return element("div", { class: "try" },
    picker || inputs.length ? element("div", { class: "row" }, picker, inputs) : null,
    body,
    element("div", { class: "row" }, send, stop, status),
    output);
}

/** Writes an answer as it arrives; JSON that came whole is indented. */
async function read(response, output) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) output.append(piece.value);
  if (!response.headers.get("content-type")?.startsWith("application/json")) return;
  try {
    output.textContent = JSON.stringify(JSON.parse(output.textContent), null, 2);
  } catch {
    // It is shown as it came.
  }
}

/** Draws an operation; what is inside it when it is opened. */
function draw(api, path, verb, operation) {
  const drawn = element("details", { class: "operation", id: operation.operationId },
    element("summary", {},
      element("span", { class: `verb ${verb}` }, verb.toUpperCase()),
      element("span", { class: "path" }, path),
      element("span", { class: "faint" }, operation.summary)));
  drawn.ontoggle = () => {
    if (drawn.childElementCount > 1) return;
    const parameters = (operation.parameters ?? []).map((parameter) => element("tr", {},
      element("td", {}, element("code", {}, parameter.name), element("span", { class: "needed" }, " required")),
      element("td", {}, prose(parameter.description))));
    const body = operation.requestBody?.content["application/json"];
    drawn.append(element("div", {},
      operation.security?.length === 0 ? element("p", { class: "faint" }, "Needs no key.") : null,
      element("h4", {}, "Try it"), attempt(path, verb, operation),
      parameters.length ? [element("h4", {}, "In the path"), element("table", { class: "fields" }, parameters)] : null,
      body ? [element("h4", {}, "Body"), content(api, "application/json", body, true)].flat() : null,
      element("h4", {}, "Answers"), answers(api, operation)));
  };
  return drawn;
}

/** Opens the operation that the address names. */
function follow() {
  const drawn = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!drawn?.classList.contains("operation")) return;
  drawn.open = true;
  drawn.scrollIntoView();
}

async function start() {
  const main = document.getElementById("main");
  const about = document.getElementById("about");
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`openapi.json was answered with ${response.status}`);
  const api = await response.json();
  document.getElementById("version").textContent = api.info.version;
  about.replaceWith(
    ...api.info.description.split("\n\n").map((text) => element("p", {}, prose(text))),
    element("p", {}, element("a", { href: "openapi.json" }, "openapi.json"), ` (OpenAPI ${api.openapi}) is what this page shows.`));
  const all = Object.entries(api.paths).flatMap(([path, verbs]) => Object.entries(verbs).map(([verb, operation]) => ({ path, verb, operation })));
  const list = document.getElementById("list");
  for (const group of api.tags) {
    const own = all.filter(({ operation }) => operation.tags.includes(group.name));
    main.append(element("h2", {}, group.name), element("p", { class: "faint" }, prose(group.description)),
      ...own.map(({ path, verb, operation }) => draw(api, path, verb, operation)));
    list.append(element("section", {}, element("h3", {}, group.name), own.map(({ path, verb, operation }) => element("a", { href: `#${operation.operationId}`, title: operation.summary, onclick: follow_later },
      element("span", { class: `verb ${verb}` }, verb.toUpperCase()), element("span", { class: "path" }, path)))));
  }
  document.getElementById("filter").oninput = (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const link of list.querySelectorAll("a")) link.hidden = !`${link.textContent} ${link.title}`.toLowerCase().includes(wanted);
    for (const section of list.children) section.hidden = !section.querySelector("a:not([hidden])");
  };
  addEventListener("hashchange", follow);
  follow();
}

/** A link that is clicked again changes no address, and opens its operation all the same. */
function follow_later() {
  setTimeout(follow);
}

start().catch((error) => {
  const about = document.getElementById("about");
  if (about) about.textContent = `This page could not be drawn: ${error.message}`;
});
