// Chips that narrow the results: values of a few keyword fields that the first hits have.

import { label } from "/web/details.js";

const bar = document.querySelector("#facets");
const FIELDS = ["category", "orientation", "licence", "license"];
const MOST = { category: 6, orientation: 3, licence: 3, license: 3 };
let known = new Set();
let question = null;
let seen = new Map();

// Fields of kind keyword: only these can be asked for with `equals`.
export function declare(fields) {
  known = new Set(fields.filter((field) => field.kind === "keyword").map((field) => field.name));
}

export function filterable() {
  return known;
}

export function render({ asked, filters, hits, toggle }) {
  if (asked !== question || !filters.length) {
    seen = new Map(FIELDS.filter((field) => known.has(field)).map((field) => [field, new Map()]));
    question = asked;
  }
  for (const [field, values] of seen) {
    for (const hit of hits) {
      const value = field in hit ? hit[field] : hit.metadata[field];
      if (typeof value === "string" && value.length < 40 && !values.has(value)) values.set(value, 0);
      if (values.has(value) && !filters.length) values.set(value, values.get(value) + 1);
    }
  }
  const chips = filters.filter(({ field, value }) => !seen.get(field)?.has(value)).map((one) => [one.field, one.value]);
  for (const [field, values] of seen) {
    const most = [...values].sort((a, b) => b[1] - a[1]).map(([value]) => value);
    const active = filters.filter((one) => one.field === field).map((one) => one.value);
    const offered = [...new Set([...most.slice(0, MOST[field]), ...active.filter((value) => values.has(value))])];
    if (offered.length > 1 || active.length) chips.push(...offered.map((value) => [field, value]));
  }
  const held = bar.contains(document.activeElement) ? document.activeElement.dataset.of : null;
  bar.replaceChildren(
    ...chips.map(([field, value]) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.textContent = value;
      chip.title = label(field);
      chip.dataset.of = `${field}:${value}`;
      chip.setAttribute("aria-pressed", String(filters.some((one) => one.field === field && one.value === value)));
      chip.onclick = () => toggle(field, value);
      return chip;
    }),
  );
  bar.hidden = !chips.length;
  if (held) [...bar.children].find((chip) => chip.dataset.of === held)?.focus({ preventScroll: true });
}

export function hide() {
  bar.hidden = true;
}

// Values of one field are alternatives, fields add up.
export function asFilter(filters) {
  const byField = new Map();
  for (const { field, value } of filters) byField.set(field, [...(byField.get(field) ?? []), value]);
  const parts = [...byField].map(([field, values]) =>
    values.length === 1 ? { field, equals: values[0] } : { field, any_of: values },
  );
  if (!parts.length) return undefined;
  return parts.length === 1 ? parts[0] : { and: parts };
}
