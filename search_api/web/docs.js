// The API's description, read from /openapi.json and written out. No scripts from other servers.

const main = document.querySelector("#docs");
let schemas = {};

const el = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const resolve = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] ?? {} : schema ?? {});

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return [...new Set(options.filter((one) => one.type !== "null").map(typeOf))].join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items)}]`;
  if (schema.contentEncoding || schema.contentMediaType) return `${schema.contentEncoding ?? "file"}`;
  return [schema.type ?? "anything", schema.format].filter(Boolean).join(", ");
}

const description = (schema) => schema?.description ?? schema?.anyOf?.find((one) => one.description)?.description;

function limits(schema) {
  const parts = [schema, ...(schema.anyOf ?? [])];
  const pick = (name) => parts.map((part) => part[name]).find((value) => value !== undefined);
  const words = [];
  for (const [name, sign] of [["minimum", "≥"], ["maximum", "≤"], ["maxLength", "length ≤"], ["maxItems", "items ≤"]]) {
    if (pick(name) !== undefined) words.push(`${sign} ${pick(name)}`);
  }
  if (schema.default !== undefined && schema.default !== null) words.push(`default ${JSON.stringify(schema.default)}`);
  return words.join(", ");
}

function table(rows) {
  const made = el("table");
  for (const { name, needed, schema, text } of rows) {
    const row = made.insertRow();
    row.insertCell().append(el("code", name, needed ? "needed" : ""));
    row.insertCell().append(el("code", typeOf(schema)));
    row.insertCell().textContent = [text ?? description(schema), limits(schema ?? {})].filter(Boolean).join("; ");
  }
  return made;
}

function fields(schema) {
  const { properties = {}, required = [] } = resolve(schema);
  return table(
    Object.entries(properties).map(([name, one]) => ({ name, needed: required.includes(name), schema: one })),
  );
}

function example(method, path, operation) {
  const [kind, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const lines = [`curl -s ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${location.origin}${path}`];
  if (kind === "multipart/form-data") lines.push("-F image=@picture.jpg");
  else if (kind) {
    const given = resolve(body.schema).examples?.[0] ?? {};
    lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(given)}'`);
  }
  return lines.join(" \\\n  ");
}

function operationOf(method, path, operation) {
  const made = el("details");
  const summary = el("summary");
  const described = operation.description ?? operation.summary ?? "";
  summary.append(el("code", method.toUpperCase(), "method"), el("code", path), el("span", described.split("\n")[0], "gist"));
  const body = el("div", undefined, "body");
  const parameters = operation.parameters ?? [];
  if (parameters.length) {
    const rows = parameters.map((one) => ({ name: one.name, needed: one.required, schema: one.schema, text: one.description }));
    body.append(el("h3", "Parameters"), table(rows));
  }
  for (const [kind, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    body.append(el("h3", `Body: ${kind}`), fields(schema));
  }
  body.append(el("h3", "Answers"));
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => {
    const [kind, content] = Object.entries(answer.content ?? {})[0] ?? [];
    const schema = content?.schema?.$ref ? content.schema : { type: kind ?? "nothing" };
    return { name: status, schema, text: answer.description };
  });
  body.append(table(answers), el("h3", "Try it"), el("pre", example(method, path, operation)));
  made.append(summary, body);
  return made;
}

const api = await (await fetch("/openapi.json")).json();
schemas = api.components.schemas;
main.replaceChildren(el("h1", "The API"), el("p", api.info.description));
const groups = new Map();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const tag = operation.tags?.[0] ?? "other";
    groups.set(tag, [...(groups.get(tag) ?? []), operationOf(method, path, operation)]);
  }
}
for (const [tag, operations] of groups) main.append(el("h2", tag), ...operations);
main.append(el("h2", "Objects"));
for (const [name, schema] of Object.entries(schemas).filter(([, one]) => one.properties)) {
  const made = el("details");
  const summary = el("summary");
  summary.append(el("code", name), el("span", (schema.description ?? "").split("\n")[0], "gist"));
  const body = el("div", undefined, "body");
  body.append(fields(schema));
  made.append(summary, body);
  main.append(made);
}
