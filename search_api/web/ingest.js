// A line that tells how far a running ingest is.

import { get } from "/web/api.js";

const line = document.querySelector("#ingest");
const BUSY_MS = 1500;
const IDLE_MS = 20000;

// Calls `changed` whenever pictures have come in since it last looked.
export function follow(changed) {
  let before = null;
  const look = async () => {
    let running = null;
    if (!document.hidden) {
      try {
        const { ingests } = await get("/v1/ingests?limit=5");
        running = ingests.find((ingest) => ingest.state === "running") ?? null;
        const total = ingests.reduce((sum, { counts }) => sum + counts.added, 0);
        if (before !== null && total !== before) changed(running !== null);
        else if (before !== null && line.hidden === false && !running) changed(false);
        before = total;
      } catch {
        // the page works without this line; the next search says what is wrong
      }
      tell(running);
    }
    setTimeout(look, running ? BUSY_MS : IDLE_MS);
  };
  look();
}

function tell(ingest) {
  line.hidden = ingest === null;
  if (ingest === null) return;
  const { added, unchanged, updated, quarantined } = ingest.counts;
  const total = (added + unchanged + updated + quarantined).toLocaleString();
  const aside = quarantined ? `, ${quarantined.toLocaleString()} of them can't be used` : "";
  line.textContent = `Taking in pictures: ${total} so far${aside}`;
}
