// Boards: the list of them, or one with its pictures in their order. /boards, /boards?id=BOARD

import { ask, download, get, needsKey, show } from "/web/api.js";

const at = (id) => document.querySelector(`#${id}`);
const PAGE = 100;
const FOUND = 12;
const id = new URLSearchParams(location.search).get("id");
const path = `/v1/collections/${encodeURIComponent(id)}`;
let next = null;

const counted = (count) => `${count.toLocaleString()} picture${count === 1 ? "" : "s"}`;

// What is done by a click: what goes wrong is said, and the button waits until it is done.
function doing(button, act) {
  button.onclick = async (event) => {
    event.preventDefault();
    button.disabled = true;
    at("problem").hidden = true;
    try {
      await act();
    } catch (error) {
      failed(error);
    } finally {
      button.disabled = false;
    }
  };
}

function failed(error) {
  at("problem").textContent = error.message;
  at("problem").hidden = false;
}

function make(tag, properties, ...inside) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...inside);
  return made;
}

function picture(asset, ...under) {
  const image = make("img", { alt: asset.title || "Untitled picture", loading: "lazy", decoding: "async" });
  show(image, asset.thumbnail_url).catch(failed);
  const link = make("a", { href: `/?like=${asset.asset_id}#${asset.asset_id}` }, image);
  const item = make("li", {}, link, make("p", { textContent: asset.title || "Untitled" }), ...under);
  item.dataset.asset = asset.asset_id;
  return item;
}

// --- all boards

let before = null;

async function names() {
  const page = await get(`/v1/collections?limit=50${before ? `&before=${before}` : ""}`);
  for (const board of page.collections) {
    const link = make("a", { href: `/boards?id=${board.id}`, textContent: board.name });
    at("names").append(make("li", {}, link, make("span", { className: "quiet", textContent: counted(board.count) })));
  }
  before = page.next_before;
  at("names-more").hidden = !before;
  at("said").textContent = at("names").children.length ? "" : "No boards yet.";
}

// --- one board

async function board() {
  const page = await get(`${path}/items?limit=${PAGE}${next ? `&after=${next}` : ""}`);
  named(page.collection);
  told(page.collection);
  at("pictures").append(...page.items.map(ours));
  next = page.next_after;
  at("pictures-more").hidden = !next;
  for (const kind of ["pdf", "csv", "json"]) at(`export-${kind}`).href = `${path}/export?format=${kind}`;
}

function named({ name, notes }) {
  document.title = `${name} – Phosphene`;
  at("board-name").textContent = at("editing-name").value = name;
  at("board-notes").textContent = at("editing-notes").value = notes;
}

function edit(shown = at("editing").hidden) {
  at("editing").hidden = !shown;
  at("edit").setAttribute("aria-expanded", String(shown));
  if (shown) at("editing-name").focus();
}

async function away() {
  const name = at("board-name").textContent;
  if (!confirm(`Delete the board “${name}” and its links? Its pictures stay in the catalogue.`)) return;
  await ask("DELETE", path);
  location.href = "/boards";
}

function told(collection) {
  at("said").textContent = counted(collection.count);
}

function ours(asset) {
  const note = make("input", { value: asset.note, maxLength: 4000, placeholder: "A note" });
  note.setAttribute("aria-label", `Note on ${asset.title || "this picture"}`);
  note.onchange = () => ask("PATCH", `${path}/items/${asset.asset_id}`, { note: note.value }).catch(failed);
  const button = (text, label) => {
    const made = make("button", { type: "button", className: "icon", textContent: text, title: label });
    made.setAttribute("aria-label", `${label}: ${asset.title || "this picture"}`);
    return made;
  };
  const [earlier, later, away] = [button("←", "Earlier"), button("→", "Later"), button("×", "Take off the board")];
  const item = picture(asset, note, make("div", { className: "order" }, earlier, later, away));
  doing(earlier, () => move(item, item.previousElementSibling?.previousElementSibling, item.previousElementSibling));
  doing(later, () => move(item, item.nextElementSibling, item.nextElementSibling));
  doing(away, async () => {
    const { collection } = await ask("POST", `${path}/items/remove`, { asset_ids: [asset.asset_id] });
    item.remove();
    told(collection);
  });
  return item;
}

// Put it behind a picture, or first, where it has a neighbour to pass.
async function move(item, anchor, passed) {
  if (!passed) return;
  const after = anchor ? { after: anchor.dataset.asset } : { first: true };
  await ask("POST", `${path}/items/move`, { asset_ids: [item.dataset.asset], ...after });
  if (anchor) anchor.after(item);
  else at("pictures").prepend(item);
}

async function more() {
  const { hits } = await get(`${path}/more?limit=${FOUND}`);
  at("found-pictures").replaceChildren(...hits.map(offered));
  at("found").hidden = false;
  at("found-title").scrollIntoView({ block: "start" });
}

function offered(asset) {
  const add = make("button", { type: "button", className: "button", textContent: "Add" });
  add.setAttribute("aria-label", `Add ${asset.title || "this picture"} to the board`);
  const item = picture(asset, add);
  doing(add, async () => {
    const { collection } = await ask("POST", `${path}/items`, { asset_ids: [asset.asset_id] });
    item.remove();
    told(collection);
    if (!next) at("pictures").append(ours({ ...asset, note: "" }));
  });
  return item;
}

async function odd() {
  const { pictures } = await get(`${path}/outliers?limit=100`);
  const strangers = new Set(pictures.filter((one) => one.outlier).map((one) => one.asset_id));
  for (const item of at("pictures").children) item.classList.toggle("odd", strangers.has(item.dataset.asset));
  const said = strangers.size === 1 ? "One picture does not fit" : `${strangers.size} pictures do not fit`;
  at("said").textContent = strangers.size ? `${said} the others: outlined.` : "All of them fit.";
}

async function share() {
  const made = await ask("POST", `${path}/shares`, {});
  const address = new URL(made.path, location.href).href;
  const link = make("a", { href: address, textContent: address, target: "_blank", rel: "noreferrer" });
  at("links").prepend(linked(made, "Whoever has it sees this board, without a key: ", link));
}

// Links made before: what opens them is told only once.
async function links() {
  const { shares } = await get(`${path}/shares`);
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
  const said = ({ made_at, expires_at }) => {
    const until = expires_at ? `, shows it until ${day.format(new Date(expires_at))}` : "";
    return `A link made on ${day.format(new Date(made_at))}${until}`;
  };
  at("links").replaceChildren(...shares.map((one) => linked(one, said(one))));
}

function linked({ id: link }, ...said) {
  const close = make("button", { type: "button", className: "button", textContent: "Close this link" });
  const item = make("li", {}, ...said, close);
  doing(close, async () => {
    await ask("DELETE", `${path}/shares/${link}`);
    item.remove();
  });
  return item;
}

// --- start

at("create").onsubmit = async (event) => {
  event.preventDefault();
  try {
    const made = await ask("POST", "/v1/collections", { name: at("create-name").value });
    location.href = `/boards?id=${made.id}`;
  } catch (error) {
    failed(error);
  }
};
doing(at("names-more"), names);
doing(at("pictures-more"), board);
doing(at("more"), more);
doing(at("odd"), odd);
doing(at("share"), share);
doing(at("delete"), away);
at("edit").onclick = () => edit();
at("editing").onsubmit = async (event) => {
  event.preventDefault();
  try {
    named(await ask("PATCH", path, { name: at("editing-name").value, notes: at("editing-notes").value }));
    edit(false);
  } catch (error) {
    failed(error);
  }
};
for (const kind of ["pdf", "csv", "json"]) {
  at(`export-${kind}`).addEventListener("click", (event) => {
    if (!needsKey()) return;
    event.preventDefault();
    download(event.target.href, `${at("board-name").textContent}.${kind}`).catch(failed);
  });
}

at(id ? "board" : "list").hidden = false;
(id ? Promise.all([board(), links()]) : names()).catch(failed);
