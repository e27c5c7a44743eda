// The line that says what is wrong. It stays in sight, however far down the pictures one is.

const line = document.querySelector("#problem");
const text = document.querySelector("#problem-text");
const button = document.querySelector("#retry");
let again = null;

// `retry` is offered as "Try again"; without one the reader can put the line away.
export function tell(message, retry = null) {
  again = retry;
  text.textContent = message;
  button.textContent = retry ? "Try again" : "Close";
  line.hidden = false;
  line.scrollIntoView({ block: "nearest" });
}

export function quiet() {
  line.hidden = true;
  again = null;
}

// Puts away what was only said to the reader; what can be tried again stays.
export function dismiss() {
  if (!again) quiet();
}

button.onclick = () => {
  const retry = again;
  quiet();
  if (retry) retry();
  else document.querySelector("#results").focus({ preventScroll: true });
};
