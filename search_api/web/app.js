// The page: what is asked and shown follows from the address, so that links and the back button work.

import { get, post, Problem, show } from "/web/api.js";
import * as details from "/web/details.js";
import * as facets from "/web/facets.js";
import * as grid from "/web/grid.js";
import * as imagine from "/web/imagine.js";
import { follow } from "/web/ingest.js";
import * as given from "/web/picture.js";
import * as state from "/web/state.js";
import { dismiss, quiet, tell } from "/web/telling.js";

const at = (id) => document.querySelector(`#${id}`);
const EXAMPLES = ["a sailing ship", "something to drink", "musical instrument", "a fast car", "playing chess", "dangerous animal"];
const TYPING_MS = 280;
const SLOW_MS = 5000;

let current = null; // the search on screen: {key, now, next, found, controller, coming, stuck}
let catalogue = null; // what /v1/status said
let typing = 0;
let slow = 0;
let typed = false; // the address came from typing, so that more typing replaces it
let byKeyboard = false;

// --- from the address to the screen

async function render() {
  const now = state.read();
  if (!typed) at("q").value = now.text;
  const key = state.address(now);
  document.body.dataset.view = key === "/" ? "home" : "results";
  document.title = now.text ? `${now.text} – Phosphene` : "Phosphene";
  if (current?.key !== key) await search(now, key);
  if (now.lost) tell("The picture of that search was known to that page only: drop it again.");
  openDetails(now.open);
}

async function search(now, key) {
  current?.controller.abort();
  const mine = { key, now, next: null, found: 0, controller: new AbortController(), coming: false, stuck: false };
  const focused = document.activeElement !== document.body;
  current = mine;
  busy(true);
  try {
    await showToken(now, mine);
    const answer = await page(mine);
    if (current !== mine) return;
    scrollTo(0, 0);
    quiet();
    grid.clear();
    imagine.leave();
    display(answer, mine);
    if (focused) refocus();
    if (answer.generation) drawn(answer.generation, now);
  } catch (error) {
    if (error.name !== "AbortError" && current === mine) failed(error);
  } finally {
    if (current === mine) busy(false);
  }
}

// What had the focus may have gone with the pictures before: the keyboard goes on here, not at the top of the page.
function refocus() {
  const held = document.activeElement;
  if (held !== document.body && held.checkVisibility()) return;
  if (byKeyboard && grid.all().length) grid.focus(0);
  else at("results").focus({ preventScroll: true });
}

async function page(mine) {
  const { now, next, controller } = mine;
  const filter = facets.asFilter(now.filters);
  const cursor = next ?? undefined;
  if (now.picture) {
    await given.readable(now.picture);
    const form = new FormData();
    form.append("image", now.picture);
    if (filter) form.append("filter", JSON.stringify(filter));
    if (cursor) form.append("cursor", cursor);
    return post("/v1/search/image", form, controller.signal);
  }
  if (now.like) return post("/v1/search", { asset_id: now.like, filter, cursor }, controller.signal);
  if (now.text) {
    const generate = typed ? "never" : undefined; // half a sentence is not worth a drawing; undefined: as deployed
    return post("/v1/search", { query: now.text, mode: "auto", collapse: "duplicates", filter, cursor, generate }, controller.signal);
  }
  const after = cursor ? `&after=${encodeURIComponent(cursor)}` : "";
  return get(`/v1/assets?limit=24${after}`, controller.signal).then(({ assets, next_after }) => ({
    hits: assets,
    next_cursor: next_after,
  }));
}

function display(answer, mine) {
  const { now } = mine;
  const home = mine.key === "/";
  grid.add(answer.hits);
  mine.next = answer.next_cursor;
  mine.found += answer.hits.length;
  at("more").hidden = !mine.next;
  nearEnd.unobserve(at("more")); // it tells again where the button is still in sight, as on a tall screen
  nearEnd.observe(at("more"));
  if (home) facets.hide();
  else facets.render({ asked: state.address({ ...now, filters: [] }), filters: now.filters, hits: grid.all(), toggle });
  const pictures = mine.found === 1 ? "picture" : "pictures";
  const total = (catalogue?.assets ?? 0).toLocaleString();
  const nearest = mine.next ? `The nearest ${mine.found} pictures` : `${mine.found} ${pictures}`;
  at("count").textContent = home ? (catalogue?.assets ? `From the catalogue of ${total} pictures` : "") : nearest;
  at("time").textContent = answer.timing_ms ? `${Math.max(1, Math.round(answer.timing_ms.total))} ms` : "";
  at("understood").textContent = understood(answer.understood, now);
  verdict(answer.match, mine.found);
  empty(mine);
}

// What the signs and the "without" of the search box were taken for; nothing where the words stand as they were typed.
function understood(told, now) {
  if (!now.text || !told) return "";
  const asTyped = told.parts.length === 1 && told.parts[0].text === now.text.split(/\s+/).join(" ");
  return asTyped ? "" : `Understood: ${told.note}`;
}

// Hits that are no match are shown as what they are: the nearest there is.
function verdict(match, found) {
  const none = match && !match.matched && found > 0;
  at("verdict").hidden = !none;
  if (!none) return;
  const chance = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
  const sure = match.calibrated;
  at("verdict-title").textContent = sure ? "No match in this catalogue" : "Probably no match in this catalogue";
  at("verdict-text").textContent = sure
    ? `These are the nearest pictures. The best of them is right with a probability of ${chance.format(match.probability)}.`
    : "These are the nearest pictures. Told by a rule of thumb: phosphene calibrate makes it surer.";
  at("verdict").title = match.note;
}

// --- pictures that the catalogue lacks

// The question as something to draw. A text has always the same seed, as in a search: asked again, it is at hand.
async function asDrawing({ text, like, picture }) {
  if (picture) return { body: { image: await base64(picture) }, title: `Like ${picture.name || "your picture"}` };
  if (like) return { body: { asset_id: like, seed: 0 }, title: at("token-name").textContent };
  return { body: { text, seed: 0 }, title: text };
}

async function imagineIt() {
  const { body, title } = await asDrawing(state.read());
  imagine.begin(body, title);
}

async function drawn(offer, now) {
  const { body, title } = await asDrawing(now);
  imagine.offered(offer, body, title);
}

async function base64(file) {
  const reader = new FileReader();
  await new Promise((resolve, reject) => {
    reader.onload = resolve;
    reader.onerror = () => reject(new Error(`${file.name} can't be read.`));
    reader.readAsDataURL(file);
  });
  return reader.result;
}

// What a picture can be blended with: the question, in a few words.
function questionFor(hit) {
  const { text, like, picture } = state.read();
  if (picture) return picture.name || "your picture";
  if (like) return like === hit.asset_id ? null : at("token-name").textContent.replace(/^Like /, "");
  return text || null;
}

async function blend(hit) {
  const question = questionFor(hit);
  const { seed, ...asked } = (await asDrawing(state.read())).body;
  imagine.begin({ parts: [{ asset_id: hit.asset_id }, asked], seed }, `${grid.name(hit)} and ${question}`);
}

imagine.connect({
  accepted: () => look().catch(() => {}),
  closed: () => at("results").focus({ preventScroll: true }),
  open: (asset) => {
    history.pushState({ followed: true }, "", `#${asset}`);
    render();
  },
});
at("verdict-imagine").onclick = imagineIt;
at("empty-imagine").onclick = imagineIt;

function empty({ found, now, key }) {
  at("empty").hidden = found > 0;
  if (found) return;
  const action = at("empty-action");
  at("empty-imagine").hidden = key === "/";
  at("count").textContent = key === "/" ? "" : "No pictures";
  action.hidden = !now.filters.length;
  if (now.filters.length) {
    at("empty-title").textContent = "Nothing with these filters";
    at("empty-text").textContent = "Other pictures may answer the question.";
    action.textContent = "Remove the filters";
    action.onclick = () => visit({ ...now, filters: [] });
  } else if (catalogue?.assets && !catalogue.embedded) {
    at("empty-title").textContent = "No picture is embedded with this model yet";
    at("empty-text").textContent = "Do it with: phosphene verify --repair";
  } else {
    at("empty-title").textContent = "No pictures yet";
    at("empty-text").textContent = "Add some with: phosphene ingest FOLDER";
  }
}

async function more() {
  const mine = current;
  if (!mine?.next || mine.coming || mine.stuck) return;
  mine.coming = true;
  const before = mine.found;
  try {
    const answer = await page(mine);
    if (current !== mine) return;
    const pressed = document.activeElement === at("more");
    display(answer, mine);
    if (pressed) grid.focus(before);
  } catch (error) {
    if (error.name === "AbortError" || current !== mine) return;
    mine.stuck = true; // the pictures that are there stay, and so does the place among them
    tell(error.message, goOn);
  } finally {
    mine.coming = false;
  }
}

function goOn() {
  if (current?.stuck) quiet();
  if (current) current.stuck = false;
  more();
}

function failed(error) {
  tell(error.message, mayPass(error) ? again : null);
  at("empty").hidden = true;
  at("verdict").hidden = true;
  at("count").textContent = "";
  at("understood").textContent = "";
  at("time").textContent = "";
  if (current && !current.found) {
    grid.clear();
    at("more").hidden = true;
  }
}

// Whether the same question can go better the next time: not where it was the question that is wrong.
const mayPass = ({ status = 500 }) => status === 0 || status === 429 || status >= 500;

function again() {
  at("results").focus({ preventScroll: true }); // the button that was pressed goes away
  current = null;
  start();
}

function busy(yes) {
  at("busy").hidden = !yes;
  grid.stale(yes);
  clearTimeout(slow);
  if (yes) slow = setTimeout(() => (at("count").textContent = "Still waiting for the answer…"), SLOW_MS);
}

async function showToken(now, mine) {
  const token = at("token");
  token.hidden = !now.like && !now.picture;
  at("q").placeholder = token.hidden ? "A lighthouse in a storm" : "…or describe one";
  if (now.picture) {
    at("token-name").textContent = now.picture.name || "Your picture";
    at("token-picture").src = URL.createObjectURL(now.picture);
  } else if (now.like) {
    const asset = grid.all().find((hit) => hit.asset_id === now.like) ?? (await lookUp(now.like, mine.controller.signal));
    if (current !== mine) return;
    at("token-name").textContent = `Like ${grid.name(asset)}`;
    show(at("token-picture"), asset.thumbnail_url).catch(() => {});
  }
}

// --- details

async function openDetails(id) {
  if (!id) {
    const was = document.querySelector("#details").open;
    details.close();
    if (was && byKeyboard) grid.focus(lastOpen());
    return;
  }
  let hit = grid.all().find((one) => one.asset_id === id);
  if (!hit) {
    try {
      hit = await lookUp(id);
    } catch (error) {
      if (state.read().open === id) tell(error.message, mayPass(error) ? () => openDetails(id) : null);
      return;
    }
    if (state.read().open !== id) return;
  }
  const index = indexOf(id);
  details.open(hit, {
    before: index > 0,
    after: index >= 0 && index < grid.all().length - 1,
    filterable: facets.filterable(),
    question: questionFor(hit),
  });
  openDetails.last = index;
}

async function lookUp(id, signal) {
  try {
    return await get(`/v1/assets/${encodeURIComponent(id)}`, signal);
  } catch (error) {
    if (error.status !== 404 && error.status !== 422) throw error;
    throw new Problem("There is no such picture in this catalogue. It may have been taken out.", 404);
  }
}

const indexOf = (id) => grid.all().findIndex((hit) => hit.asset_id === id);
const lastOpen = () => openDetails.last ?? 0;

function closeDetails() {
  if (history.state?.followed) history.back();
  else {
    history.replaceState({}, "", location.pathname + location.search);
    render();
  }
}

// Done once focus and scrolling are back where they were, so that both can go elsewhere. A busy browser scrolls back
// as late as in the frame after the one that popstate came in.
async function leaveDetails() {
  details.close();
  const back = history.state?.followed && new Promise((resolve) => addEventListener("popstate", resolve, { once: true }));
  closeDetails();
  await back;
  for (const _ of ["this frame", "the next"]) await new Promise(requestAnimationFrame);
}

details.connect({
  close: closeDetails,
  step: (by) => {
    const next = grid.all()[indexOf(state.read().open) + by];
    if (!next) return;
    history.replaceState(history.state, "", `#${next.asset_id}`);
    openDetails(next.asset_id);
  },
  similar: (hit) => visit({ like: hit.asset_id }),
  variation: async (hit) => {
    await leaveDetails();
    imagine.begin({ asset_id: hit.asset_id }, `Variation of ${grid.name(hit)}`);
  },
  blend: async (hit) => {
    await leaveDetails();
    blend(hit);
  },
  search: (text) => visit({ text }),
  filter: (field, value) => {
    const { text, like, picture, filters } = state.read();
    const asked = text || like || picture ? { text, like, picture } : { text: value };
    const kept = filters.filter((one) => one.field !== field);
    visit({ ...asked, filters: [...kept, { field, value }] });
  },
  failed,
});

// --- from the reader to the address

function visit(next, options) {
  dismiss();
  typed = options?.typed ?? false;
  const changed = state.go(next, options);
  if (!options?.typed) at("q").value = next.text ?? "";
  details.close();
  if (changed || options?.again) render();
}

function toggle(field, value) {
  const now = state.read();
  const without = now.filters.filter((one) => one.field !== field || one.value !== value);
  const filters = without.length < now.filters.length ? without : [...now.filters, { field, value }];
  visit({ ...now, filters });
}

given.connect({
  found: (picture) => visit({ picture }),
  refused: (why) => {
    if (state.read().open) closeDetails(); // they would cover the line
    tell(why);
  },
});

at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  const text = at("q").value.trim();
  const { text: before, like, picture, filters } = state.read();
  if (!text) {
    if (!like && !picture) tell("Say in a few words what the picture shows, or drop a picture here.");
    return;
  }
  if (text === before) {
    current = null;
    typed = false;
    render();
  } else visit({ text, filters }, { replace: typed });
});

at("q").addEventListener("input", () => {
  dismiss();
  clearTimeout(typing);
  typing = setTimeout(() => {
    const text = at("q").value.trim();
    const now = state.read();
    if (text === now.text) return;
    if (text.length === 1) return;
    if (!text && (now.like || now.picture)) return;
    visit({ text, filters: text ? now.filters : [] }, { replace: typed, typed: true });
  }, TYPING_MS);
});

at("q").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && at("q").value) {
    event.preventDefault();
    at("q").value = "";
  } else if (event.key === "ArrowDown" && grid.all().length) {
    event.preventDefault();
    grid.focus(0);
  } else if (event.key === "Backspace" && !at("q").value && !at("token").hidden) visit({});
});

at("brand").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  visit({});
  at("q").focus();
});

at("token-remove").onclick = () => {
  visit({});
  at("q").focus();
};
at("skip").onclick = (event) => {
  event.preventDefault(); // an address that ends in # and a word is one of a picture
  if (grid.all().length) grid.focus(0);
  else at("results").focus();
};
at("more").onclick = goOn;
const nearEnd = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && more(), { rootMargin: "600px" });

addEventListener("keydown", (event) => {
  byKeyboard = true;
  const writing = event.target.closest?.("input, textarea, dialog");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    at("q").select();
    at("q").focus();
  }
});
addEventListener("pointerdown", () => {
  byKeyboard = false;
});
addEventListener("popstate", () => {
  typed = false;
  render();
});
at("results").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState({ followed: true }, "", link.hash); // closing goes back to where it was opened
  render();
});

// --- start

at("examples").append(
  ...EXAMPLES.map((text) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.textContent = text;
    button.onclick = () => visit({ text });
    item.append(button);
    return item;
  }),
);

async function look() {
  const [status, { fields }] = await Promise.all([get("/v1/status"), get("/v1/fields")]);
  catalogue = status;
  facets.declare(fields);
  at("about").textContent = `Phosphene ${status.version} · ${status.assets.toLocaleString()} pictures · ${status.model}`;
}

async function start() {
  busy(true);
  try {
    await look();
    await render();
  } catch (error) {
    busy(false);
    failed(error);
  }
}

await start();
follow(async () => {
  await look().catch(() => {});
  if (state.address(state.read()) === "/" && (current?.found ?? 0) < 24) {
    current = null;
    await render();
  }
});
