// What happens, as it happens. Read by hand from the stream: the browser's own reader can send no token.

import { No, call } from "./api.js";
import { by, make, mark, span, time, words } from "./dom.js";

/** On the screen at most. */
const KEPT = 100;
const SLOWEST = 30_000;

const LEVEL = {
  "breaker.opened": "bad", "letter.parked": "bad", "store.unhealthy": "bad", "store.full": "bad", "health.down": "bad", "quota.spent": "bad",
  "config.refused": "bad", "letter.expired": "bad", "breaker.closed": "good", "health.up": "good", "letter.delivered": "good", "store.healthy": "good",
};

let running = null;
let last = "";

export function start(happened) {
  if (running) return;
  running = new AbortController();
  follow(running.signal, happened);
}

export function stop() {
  running?.abort();
  running = null;
}

async function follow(signal, happened) {
  let wait = 1000;
  while (!signal.aborted) {
    try {
      const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
      const answer = await call("GET", "/api/v1/events", { headers, signal });
      state("");
      wait = 1000;
      await read(answer.body, (event) => {
        show(event);
        happened();
      });
    } catch (error) {
      if (signal.aborted) return;
      // The door is shut elsewhere.
      if (error instanceof No && error.status === 401) return;
      state(error instanceof No ? `Not followed: ${error.message}.` : "Not followed: trying again.");
    }
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, SLOWEST);
  }
}

function state(text) {
  if (by("events-state").textContent !== text) by("events-state").textContent = text;
}

/** Reads the stream to its end: fields up to an empty line are an event. */
async function read(body, tell) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) tell(event);
        event = { data: [] };
        continue;
      }
      const [, name, text] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === "id") last = text;
      if (name === "data") event.data.push(text);
    }
  }
}

function show(event) {
  let told;
  try {
    told = JSON.parse(event.data.join("\n"));
  } catch {
    return;
  }
  const { event: kind = "", at, upstream, ...about } = told;
  const details = Object.entries(about)
    .filter(([, value]) => !["", 0, false, null].includes(value) && typeof value !== "object")
    .map(([name, value]) => (name.endsWith("_ms") ? [name.slice(0, -3), span(value)] : [name, words(value)]));
  const list = by("events");
  // A thousand letters that are delivered are one line: what else has happened stays in sight.
  const same = kind.startsWith("letter.") ? [...list.children].find((item) => item.dataset.same === `${kind} ${upstream}`) : null;
  const times = Number(same?.dataset.times ?? 0) + 1;
  same?.remove();
  list.prepend(make("li", { "data-same": `${kind} ${upstream}`, "data-times": times },
    at ? time(at) : null,
    mark(LEVEL[kind] ?? "none", words(kind)),
    make("span", {}, upstream ?? ""),
    times > 1 ? make("span", {}, `${times.toLocaleString("en")} times`) : null,
    make("small", {}, details.map(([name, value]) => `${words(name)} ${value}`).join(" · "))));
  while (list.children.length > KEPT) list.lastChild.remove();
}
