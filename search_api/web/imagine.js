// A picture that the catalogue lacks: asked for, watched while it is drawn, and taken in by whoever likes it.

import { download, events, get, needsKey, post, show } from "/web/api.js";

const panel = document.querySelector("#imagine");
const part = (id) => document.querySelector(`#imagine-${id}`);
const ENDED = ["finished", "failed", "cancelled", "refused"];
const STAGES = { prior: "Finding what it looks like", decoder: "Drawing", super_resolution: "Adding detail" };
const AGAIN_MS = 1000;
const MAX_FAILURES = 5;

let actions = {};
let shown = null; // what the panel is about: {body, title, id, controller, asset}

export function connect(handlers) {
  actions = handlers;
}

// Asks for a picture; `title` says in a few words what of.
export async function begin(body, title) {
  const mine = enter(body, title);
  panel.scrollIntoView({ block: "nearest" });
  panel.focus({ preventScroll: true });
  try {
    const generation = await post("/v1/generations", body, mine.controller.signal);
    await watch(mine, generation);
  } catch (error) {
    failed(mine, error);
  }
}

// Shows what a search has had drawn of its own accord; the focus stays where it is.
export async function offered(offer, body, title) {
  if (!offer) return;
  const mine = enter(body, title);
  if (offer.status === "refused") {
    render(mine, { status: "refused", error: offer.detail, pictures: [] });
    return;
  }
  try {
    await watch(mine, await get(`/v1/generations/${offer.id}`, mine.controller.signal));
  } catch (error) {
    failed(mine, error);
  }
}

// The reader went on to something else. What is being drawn goes on, and is there when asked for again.
export function leave() {
  shown?.controller.abort();
  shown = null;
  panel.hidden = true;
}

function enter(body, title) {
  leave();
  shown = { body, title, id: null, controller: new AbortController(), asset: null };
  part("title").textContent = title;
  part("picture").hidden = true;
  part("picture").removeAttribute("src");
  panel.hidden = false;
  render(shown, { status: "queued", pictures: [] });
  return shown;
}

async function watch(mine, generation) {
  mine.id = generation.id;
  render(mine, generation);
  let failures = 0;
  let now = generation;
  while (shown === mine && !ENDED.includes(now.status)) {
    try {
      await events(
        `/v1/generations/${mine.id}/events`,
        (_, told) => {
          now = told;
          render(mine, told);
        },
        mine.controller.signal,
      );
      failures = 0;
    } catch (error) {
      failures += 1;
      if (error.name === "AbortError" || error.status || failures > MAX_FAILURES) throw error;
    }
    if (!ENDED.includes(now.status)) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

function failed(mine, error) {
  if (error.name !== "AbortError") render(mine, { status: "failed", error: error.message, pictures: [] });
}

function render(mine, generation) {
  if (shown !== mine) return;
  const { status, progress, preview } = generation;
  const [picture] = generation.pictures;
  const ended = ENDED.includes(status);
  panel.dataset.status = status;
  panel.setAttribute("aria-busy", String(!ended));
  say(sentence(generation));

  const steps = part("steps");
  steps.hidden = ended;
  if (progress) {
    steps.max = progress.of;
    steps.value = progress.step;
  } else steps.removeAttribute("value");

  const image = part("picture");
  if (picture) {
    mine.picture = picture;
    image.alt = `Generated picture: ${mine.title}`;
    show(image, picture.image_url).catch((error) => failed(mine, error));
  } else if (preview) {
    image.alt = "How the picture looks so far";
    image.src = preview;
  }
  image.hidden = !picture && !(preview || image.hasAttribute("src"));
  if (ended && !picture) image.hidden = true;
  part("badge").hidden = !picture;

  mine.asset ??= picture?.asset_id ?? null;
  part("cancel").hidden = ended || mine.id === null;
  part("cancel").disabled = generation.cancel_asked ?? false;
  part("accept").hidden = !picture || mine.asset !== null;
  part("accepted").hidden = mine.asset === null;
  if (mine.asset) part("accepted").href = `#${mine.asset}`;
  part("download").hidden = !picture;
  if (picture) {
    part("download").href = picture.image_url;
    part("download").download = fileName(mine, picture);
  }
  part("another").hidden = !ended || status === "refused" || !mine.body;
  part("another").textContent = picture ? "Another one" : "Try again";
}

function sentence({ status, progress, error, seed, cancel_asked }) {
  if (status === "finished") return shown.asset ? "It is in the catalogue." : `Drawn by a model, with seed ${seed}. It is in no catalogue.`;
  if (status === "failed") return `It could not be drawn. ${error ?? ""}`;
  if (status === "refused") return `No picture was drawn. ${error ?? ""}`;
  if (status === "cancelled") return "Cancelled.";
  if (status === "queued") return "Waiting for its turn";
  if (cancel_asked) return "Stopping";
  return STAGES[progress?.stage] ?? "Getting ready";
}

// A live region: said again only where it differs, so that a screen reader hears stages and not steps.
function say(text) {
  if (part("state").textContent !== text) part("state").textContent = text;
}

function fileName({ id }, picture) {
  return `phosphene-${id}.${picture.format}`;
}

part("cancel").onclick = async () => {
  const mine = shown;
  part("cancel").disabled = true;
  say("Stopping");
  try {
    const generation = await post(`/v1/generations/${mine.id}/cancel`, {});
    render(mine, generation);
  } catch (error) {
    failed(mine, error);
  }
};

part("accept").onclick = async () => {
  const mine = shown;
  part("accept").disabled = true;
  try {
    const asset = await post(`/v1/generations/${mine.id}/accept`, { index: mine.picture.index, title: mine.title });
    mine.asset = asset.asset_id;
    if (shown !== mine) return;
    part("accept").hidden = true;
    part("accepted").hidden = false;
    part("accepted").href = `#${mine.asset}`;
    part("accepted").focus();
    say("It is in the catalogue.");
    actions.accepted(asset);
  } catch (error) {
    say(`It could not be added. ${error.message}`);
  } finally {
    part("accept").disabled = false;
  }
};

part("accepted").onclick = (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  actions.open(shown.asset);
};

part("another").onclick = () => {
  const { seed, ...body } = shown.body; // without one, the seed is drawn at random
  begin(body, shown.title);
};

part("download").onclick = (event) => {
  if (!needsKey()) return;
  event.preventDefault();
  download(part("download").href, part("download").download).catch((error) => say(error.message));
};

part("close").onclick = () => {
  leave();
  actions.closed();
};
