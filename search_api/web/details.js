// One picture, large, with what is known about it.

import { download, needsKey, show } from "/web/api.js";
import { isDrawing, name } from "/web/grid.js";

const dialog = document.querySelector("#details");
const picture = document.querySelector("#details-picture");
const part = (id) => document.querySelector(`#details-${id}`);
const FIRST = ["creator", "author", "photographer", "year", "category", "licence", "license", "source"];
const LISTS = ["keywords", "keyword", "tags", "tag", "labels", "subjects"];

picture.addEventListener("load", () => picture.parentElement.classList.toggle("drawing", isDrawing(picture)));

let actions = {};
let shown = null;

export function connect(handlers) {
  actions = handlers;
}

export function open(hit, { before, after, filterable }) {
  shown = hit;
  part("title").textContent = name(hit);
  picture.alt = hit.title || "Untitled picture";
  show(picture, hit.thumbnail_url).catch(() => {}); // at hand already; the preview replaces it
  const large = new Image();
  large.onload = () => {
    if (shown === hit) picture.src = large.src;
  };
  show(large, hit.image_url).catch(() => {});
  part("facts").replaceChildren(...facts(hit, filterable));
  part("keywords").replaceChildren(...keywords(hit.metadata).map(wordButton));
  part("keywords").hidden = !part("keywords").children.length;
  part("back").disabled = !before;
  part("on").disabled = !after;
  part("download").href = hit.original_url;
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".facts").scrollTop = 0;
}

export function close() {
  shown = null;
  if (dialog.open) dialog.close();
}

function facts(hit, filterable) {
  const rows = [];
  const lists = new Set(LISTS);
  const names = Object.keys(hit.metadata).filter((field) => !lists.has(field));
  names.sort((a, b) => rank(a) - rank(b));
  for (const field of names) {
    const value = hit.metadata[field];
    if (value === null || value === "" || (Array.isArray(value) && !value.length)) continue;
    rows.push(...row(label(field), valueOf(field, value, filterable)));
  }
  rows.push(...row("Size", `${hit.width} × ${hit.height}, ${hit.format.toUpperCase()}, ${bytes(hit.bytes)}`));
  if (hit.score !== undefined) rows.push(...row("Score", hit.score.toFixed(3)));
  return rows;
}

function row(term, description) {
  const dt = document.createElement("dt");
  const dd = document.createElement("dd");
  dt.textContent = term;
  dd.append(description);
  return [dt, dd];
}

function valueOf(field, value, filterable) {
  const text = Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
  if (!filterable.has(field) || Array.isArray(value) || typeof value !== "string") return text;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.title = `Show only ${label(field).toLowerCase()} ${text}`;
  button.onclick = () => actions.filter(field, value);
  return button;
}

function keywords(metadata) {
  const found = LISTS.flatMap((field) => metadata[field] ?? []);
  return [...new Set(found.filter((word) => typeof word === "string"))].slice(0, 40);
}

function wordButton(word) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = word;
  button.title = `Search for ${word}`;
  button.onclick = () => actions.search(word);
  item.append(button);
  return item;
}

export function label(field) {
  const words = field.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

function rank(field) {
  const place = FIRST.indexOf(field);
  return place < 0 ? FIRST.length : place;
}

function bytes(count) {
  if (count < 1e3) return `${count} B`;
  return count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

part("similar").onclick = () => actions.similar(shown);
part("close").onclick = () => actions.close();
part("back").onclick = () => actions.step(-1);
part("on").onclick = () => actions.step(1);
part("download").onclick = (event) => {
  if (!needsKey()) return;
  event.preventDefault();
  download(shown.original_url, `${name(shown)}.${shown.format}`).catch(actions.failed);
};
dialog.addEventListener("cancel", (event) => {
  event.preventDefault(); // Esc goes the same way as the cross, so that the address follows
  actions.close();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) actions.close();
});
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") actions.step(-1);
  else if (event.key === "ArrowRight") actions.step(1);
  else return;
  event.preventDefault();
});
