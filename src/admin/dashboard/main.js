// The clockwork: asks the API every two seconds while the page is looked at, more slowly while it does not answer.

import { No, get, keep, known } from "./api.js";
import { by, mark, make, renew, say, words } from "./dom.js";
import * as events from "./events.js";
import * as letters from "./letters.js";
import * as report from "./report.js";
import * as story from "./story.js";
import * as upstreams from "./upstreams.js";

const EVERY = 2_000;
const SLOWEST = 30_000;

let timer = 0;
let due = Infinity;
let wait = EVERY;
let asking = false;
let again = false;
let looked = 0;
let seen = null;

/** The next look, after so long; one that is due earlier stays. */
function next(after) {
  const at = Date.now() + after;
  if (document.hidden || at >= due) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(look, after);
}

function halt() {
  clearTimeout(timer);
  due = Infinity;
}

/** Something has happened: looks soon, or once more after the look that is under way; under a storm of events once a second. */
function soon() {
  if (asking) again = true;
  else next(Math.max(150, 1000 - (Date.now() - looked)));
}

async function look() {
  if (asking) return;
  halt();
  asking = true;
  again = false;
  looked = Date.now();
  try {
    const [overview, listed, breakers] = await Promise.all([
      get("/api/v1/overview"), get("/api/v1/upstreams"), get("/api/v1/breakers"),
    ]);
    const level = overview.level === "normal" ? null : await get("/api/v1/degradation");
    open();
    seen = new Date();
    wait = EVERY;
    show(overview, level, listed.upstreams, breakers.breakers);
    await letters.refresh(overview);
    await report.refresh();
    trouble("");
  } catch (error) {
    failed(error);
  } finally {
    asking = false;
    if (by("door").hidden) {
      if (again) soon();
      else next(wait);
    }
  }
}

function failed(error) {
  if (error instanceof No && [401, 403, 429].includes(error.status)) return shut(error);
  wait = Math.min(wait * 2, SLOWEST);
  const why = error instanceof No ? error.message : "Fender does not answer";
  if (by("board").hidden) return shut(new No(0, why));
  trouble(`${why}. Trying again every ${wait / 1000} s${seen ? `; what stands below is of ${seen.toLocaleTimeString()}` : ""}.`);
}

function trouble(text) {
  if (by("trouble").textContent !== text) by("trouble").textContent = text;
  by("trouble").hidden = text === "";
}

/** The board, for who has a token. */
function open() {
  if (!by("board").hidden) return;
  by("door").hidden = true;
  by("board").hidden = false;
  by("leave").hidden = !known();
  by("door-problem").textContent = "";
  by("token").value = "";
  events.start(soon);
}

/** The door, for who has none that is known. */
function shut(error) {
  halt();
  events.stop();
  if (error?.status === 401 || !error) keep("");
  by("board").hidden = true;
  by("leave").hidden = true;
  by("door").hidden = false;
  by("summary").replaceChildren();
  by("freshness").textContent = "";
  by("detail").close();
  by("ask").close("");
  by("door-problem").textContent = !error ? "" : error.status === 401 ? "This token is not known." : `${error.message}.`;
  document.title = "Fender";
  by("token").focus();
}

function show(overview, level, listed, breakers) {
  const health = { healthy: "good", degraded: "warn", unhealthy: "bad" }[overview.status];
  const summary = [
    mark(health, overview.status),
    make("span", {}, `degradation: ${overview.level}`),
    overview.phase === "serving" ? null : mark("warn", overview.phase),
    make("span", { class: "quiet" }, `${overview.in_flight} in flight`),
  ].filter(Boolean);
  renew(by("summary"), summary, JSON.stringify([overview.status, overview.level, overview.phase, overview.in_flight]));
  const caller = overview.caller ? `${overview.caller.name}, ${overview.caller.role}` : "";
  by("freshness").textContent = `${seen.toLocaleTimeString()} · ${overview.version}${caller ? ` · ${caller}` : ""}`;
  const wrong = [...whole(overview, level), ...upstreams.wrong(listed, breakers)];
  wrong.push(...letters.wrong(overview));
  wrong.sort((one, other) => (other.level === "bad") - (one.level === "bad"));
  const worst = wrong.some((each) => each.level === "bad") ? "bad" : wrong.length ? "warn" : "good";
  const list = wrong.length
    ? make("ul", { class: `notice ${worst}` }, ...wrong.map((each) =>
        make("li", {}, mark(each.level, each.what), make("span", { class: "why" }, each.why ?? ""))))
    : make("p", { class: "notice good" }, mark("good", "Nothing is wrong."));
  // What only counts down is not news: it would be read out every two seconds.
  renew(by("wrong"), [list], JSON.stringify(wrong.map((each) => [each.level, each.what, each.why])));
  document.title = wrong.length ? `(${wrong.length}) Fender` : "Fender";
  upstreams.show(listed, breakers, overview.caller);
}

/** What is wrong with the whole. */
function whole(overview, level) {
  const wrong = [];
  if (overview.workers.stuck > 0) wrong.push({ level: "bad", what: `${overview.workers.stuck} workers are stuck`, why: "a defect: please report it" });
  if (overview.config.refused) wrong.push({ level: "warn", what: "The newest config was refused", why: `the old one is in force: ${overview.config.refused}` });
  if (overview.phase !== "serving") wrong.push({ level: "warn", what: `It is ${overview.phase}`, why: "" });
  if (level?.by_hand) {
    const { level: set, who, reason, until } = level.by_hand;
    wrong.push({ level: "warn", what: `Degradation is set to ${set} by hand`, why: `by ${who ?? "somebody"}${reason ? `: ${reason}` : ""}, until ${new Date(until).toLocaleTimeString()}` });
  } else if (level) {
    const sick = level.upstreams.filter((each) => each.sick).map((each) => `${each.upstream} (${each.criticality})`);
    const causes = [...sick, ...(level.store_unhealthy ? ["the store"] : [])];
    wrong.push({ level: "warn", what: `Degradation is ${words(level.level)}`, why: causes.length ? `because of ${causes.join(", ")}` : "it ends after five seconds of health" });
  }
  return wrong;
}

by("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(by("token").value.trim());
  wait = EVERY;
  look();
});
by("leave").addEventListener("click", () => {
  keep("");
  shut(null);
  say("The token is forgotten.");
});
document.addEventListener("visibilitychange", () => {
  halt();
  if (document.hidden) events.stop();
  else if (by("door").hidden) {
    if (!by("board").hidden) events.start(soon);
    look();
  }
});
upstreams.prepare(soon);
letters.prepare(soon);
report.prepare(soon);
story.prepare();
if (known()) look();
else shut(null);
