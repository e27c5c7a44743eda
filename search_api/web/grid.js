// The grid of pictures: cards, and moving among them with the arrow keys.

import { show } from "/web/api.js";

const list = document.querySelector("#results");
let hits = [];

export function clear() {
  hits = [];
  list.replaceChildren();
}

export function add(more) {
  list.append(...more.map((hit, i) => card(hit, hits.length + i, i)));
  hits = hits.concat(more);
  if (!list.querySelector('a[tabindex="0"]')) list.querySelector("a")?.setAttribute("tabindex", "0");
}

export function all() {
  return hits;
}

export function stale(yes) {
  list.classList.toggle("stale", yes);
  list.setAttribute("aria-busy", String(yes));
}

export function focus(index) {
  const links = [...list.querySelectorAll("a")];
  const link = links[index];
  if (!link) return;
  for (const other of links) other.tabIndex = other === link ? 0 : -1;
  link.focus({ preventScroll: true });
  link.scrollIntoView({ block: "nearest" });
}

export function name(hit) {
  return hit.title || "Untitled";
}

function card(hit, index, place) {
  const item = document.createElement("li");
  item.className = "hit";
  const ratio = Math.min(2.4, Math.max(0.55, hit.width / hit.height));
  item.style.setProperty("--ratio", ratio.toFixed(4));
  item.style.animationDelay = `${Math.min(place, 20) * 18}ms`;

  const link = document.createElement("a");
  link.href = `#${hit.asset_id}`;
  link.tabIndex = -1;
  link.dataset.index = index;

  const frame = document.createElement("span");
  frame.className = "frame";
  const picture = document.createElement("img");
  picture.alt = hit.title || `Untitled picture, ${hit.width} by ${hit.height}`;
  picture.loading = index < 24 ? "eager" : "lazy";
  picture.decoding = "async";
  picture.width = hit.width;
  picture.height = hit.height;
  picture.onload = () => {
    picture.classList.toggle("drawing", isDrawing(picture));
    picture.classList.add("there");
  };
  picture.onerror = () => {
    frame.classList.add("gone");
    frame.replaceChildren("Picture unavailable");
  };
  show(picture, hit.thumbnail_url).catch(picture.onerror);
  frame.append(picture);
  if (hit.generated) {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.textContent = "Generated";
    frame.append(badge);
  }

  const under = document.createElement("span");
  under.className = "under";
  const title = document.createElement("span");
  title.className = hit.title ? "title" : "title none";
  title.textContent = name(hit);
  title.title = name(hit);
  under.append(title);
  if (hit.folded) {
    const alike = document.createElement("span");
    alike.className = "score";
    alike.textContent = `+${hit.folded}`;
    alike.title = hit.folded === 1 ? "and a near-duplicate" : `and ${hit.folded} near-duplicates`;
    under.append(alike);
  }
  if (hit.score !== undefined) {
    const score = document.createElement("span");
    score.className = "score";
    score.textContent = hit.score.toFixed(2);
    score.title = "How near it is to the question: cosine, at most 1";
    under.append(score);
  }
  link.append(frame, under);
  item.append(link);
  return item;
}

// A drawing on white looks better with air around it, a photograph without: told by the rim of the picture.
const RIM = 16;
const sample = new OffscreenCanvas(RIM, RIM).getContext("2d", { willReadFrequently: true });

export function isDrawing(picture) {
  sample.drawImage(picture, 0, 0, RIM, RIM);
  const { data } = sample.getImageData(0, 0, RIM, RIM);
  let rim = 0;
  let white = 0;
  for (let i = 0; i < RIM * RIM; i += 1) {
    const [x, y] = [i % RIM, Math.floor(i / RIM)];
    if (x > 0 && y > 0 && x < RIM - 1 && y < RIM - 1) continue;
    rim += 1;
    if (data[4 * i] > 235 && data[4 * i + 1] > 235 && data[4 * i + 2] > 235) white += 1;
  }
  return white > 0.6 * rim;
}

list.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const links = [...list.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  const target = {
    ArrowRight: () => at + 1,
    ArrowLeft: () => at - 1,
    ArrowDown: () => nextRow(links, at, 1),
    ArrowUp: () => nextRow(links, at, -1),
    Home: () => 0,
    End: () => links.length - 1,
  }[event.key]?.();
  if (target === undefined) return;
  event.preventDefault();
  if (target < 0 && event.key === "ArrowUp") document.querySelector("#q").focus();
  else if (target >= 0 && target < links.length) focus(target);
});

// Rows differ in how many pictures they hold: the nearest one by its middle in the next row that there is.
function nextRow(links, at, step) {
  const box = links[at].getBoundingClientRect();
  const middle = box.left + box.width / 2;
  let best = -1;
  let row = null;
  for (let i = at + step; i >= 0 && i < links.length; i += step) {
    const other = links[i].getBoundingClientRect();
    if (Math.abs(other.top - box.top) < 4) continue;
    if (row === null) row = other.top;
    if (Math.abs(other.top - row) > 4) break;
    const away = Math.abs(other.left + other.width / 2 - middle);
    if (best < 0 || away < best.away) best = { i, away };
  }
  return best === -1 ? (step < 0 ? -1 : links.length) : best.i;
}
