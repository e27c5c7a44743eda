// Talking to the server: JSON in and out, problems as errors, the key where one is needed.

const KEY = "phosphene-key";
let key = sessionStorage.getItem(KEY);
let asking = null;

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function get(path, signal) {
  return (await send(path, { signal })).json();
}

export async function post(path, body, signal) {
  const options = { method: "POST", signal, body };
  if (!(body instanceof FormData)) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  return (await send(path, options)).json();
}

// Any other method; what has no body answers null.
export async function ask(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await send(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
}

// Server-sent events, until the stream ends. Read by fetch, since an EventSource can't send a key.
export async function events(path, told, signal) {
  const response = await send(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.data) told(fields.event, JSON.parse(fields.data));
    }
  }
}

async function send(path, options) {
  const used = key;
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...authorisation() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("Phosphene does not answer. Is it still running?", 0);
  }
  if (response.ok) return response;
  if (response.status === 401) {
    if (used === key) await askForKey();
    return send(path, options);
  }
  let detail = "";
  try {
    detail = (await response.json()).detail;
  } catch {
    // a proxy's own page, perhaps; the status says enough
  }
  throw new Problem(detail || `The server answered ${response.status}.`, response.status);
}

function authorisation() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// One dialog, however many requests wait for the key.
function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = document.querySelector("#ask");
    const input = dialog.querySelector("#key");
    dialog.querySelector("form").onsubmit = () => {
      key = input.value.trim();
      sessionStorage.setItem(KEY, key);
      input.value = "";
      asking = null;
      resolve();
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
  });
  return asking;
}

// An <img> can't send a key, so with one its picture is fetched here.
export async function show(img, url) {
  img.dataset.url = url;
  img.src = key ? await fetched(url) : url;
}

const blobs = new Map();
const MAX_BLOBS = 600;

async function fetched(url) {
  if (!blobs.has(url)) {
    blobs.set(url, send(url, {}).then((response) => response.blob()).then((blob) => URL.createObjectURL(blob)));
    if (blobs.size > MAX_BLOBS) {
      const [oldest, gone] = blobs.entries().next().value;
      blobs.delete(oldest);
      gone.then((address) => URL.revokeObjectURL(address), () => {});
    }
  }
  return blobs.get(url);
}

export async function download(url, name) {
  const link = document.createElement("a");
  link.href = await fetched(url);
  link.download = name;
  link.click();
}

export function needsKey() {
  return key !== null;
}
