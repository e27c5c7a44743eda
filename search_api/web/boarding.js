// Putting a picture on a board, from its details.

import { ask, get } from "/web/api.js";

const dialog = document.querySelector("#boarding");
const part = (id) => document.querySelector(`#boarding-${id}`);
let asset = null;

export async function open(hit) {
  asset = hit.asset_id;
  part("said").textContent = "";
  part("name").value = "";
  part("names").replaceChildren();
  dialog.showModal();
  try {
    const { collections } = await get("/v1/collections?limit=50");
    part("names").replaceChildren(...collections.map(choice));
  } catch (error) {
    part("said").textContent = error.message;
  }
}

function choice(board) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = board.name;
  button.onclick = () => put(async () => {
    const { changed, collection } = await ask("POST", `/v1/collections/${board.id}/items`, { asset_ids: [asset] });
    return { changed, collection };
  });
  item.append(button);
  return item;
}

async function put(act) {
  try {
    const { changed, collection } = await act();
    const link = document.createElement("a");
    link.href = `/boards?id=${collection.id}`;
    link.textContent = collection.name;
    part("said").replaceChildren(changed ? "It is on " : "It was already on ", link);
  } catch (error) {
    part("said").textContent = error.message;
  }
}

part("form").onsubmit = (event) => {
  event.preventDefault();
  put(async () => {
    const made = await ask("POST", "/v1/collections", { name: part("name").value, asset_ids: [asset] });
    part("names").prepend(choice(made));
    part("name").value = "";
    return { changed: 1, collection: made };
  });
};
part("close").onclick = () => dialog.close();
dialog.addEventListener("keydown", (event) => event.stopPropagation()); // arrows write here, and don't turn pages
