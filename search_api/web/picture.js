// A picture to search with: dropped, pasted or chosen.

import { Problem } from "/web/api.js";

const MAX_PICTURE_MB = 64;
const at = (id) => document.querySelector(`#${id}`);

// `found` gets a picture, `refused` a line that says why a file is none.
export function connect({ found, refused }) {
  const take = (file) => {
    if (!file.type.startsWith("image/")) refused(`${file.name || "That"} is not a picture.`);
    else if (file.size > MAX_PICTURE_MB * 2 ** 20) refused(`${file.name} is larger than ${MAX_PICTURE_MB} MB.`);
    else found(file);
  };
  choosing(take);
  dropping(take);
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}

function choosing(take) {
  at("pick").onclick = () => at("file").click();
  at("file").onchange = () => {
    if (at("file").files.length) take(at("file").files[0]);
    at("file").value = "";
  };
}

function dropping(take) {
  let depth = 0; // dragenter and dragleave come for every element on the way
  addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    depth += 1;
    at("drop").hidden = false;
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    at("drop").hidden = depth === 0;
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    at("drop").hidden = true;
    const [file] = event.dataTransfer?.files ?? [];
    if (file) take(file);
  });
}

// A file that was moved or written to since it was dropped can't be sent any more, which looks like a dead server.
export async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Problem(`${file.name || "The picture"} is no longer where it was, or was changed: drop it again.`, 422);
  }
}
