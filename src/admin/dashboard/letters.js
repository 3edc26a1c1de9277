// The letters: which writes wait, why, and an operator's word to them.

import { No, get, post } from "./api.js";
import { by, bytes, choice, detail, make, many, mark, pairs, renew, renewRows, row, say, span, sure, table, time, words } from "./dom.js";
import { story, told } from "./story.js";

const STATES = ["parked", "pending", "sending", "delivered", "discarded"];
const LEVEL = { parked: "bad", pending: "warn", sending: "warn", delivered: "good", discarded: "none" };
/** On a page, and on the screen. */
const PAGE = 10;
const MOST = 500;
/** One bulk call acts on no more. */
const BULK = 10_000;

/** Why a letter waits for an operator. */
const BECAUSE = {
  ambiguous: "nobody knows whether the API acted: sent again, it may happen twice",
  unanswered: "its client was not told that it is kept, and may have sent it again",
  permanent: "the API refused it for good: replayed as it is, it will be again",
  attempts: "all its attempts are spent",
  expired: "it waited longer than it may",
  credential: "its credential is neither kept nor configured",
  damaged: "it cannot be read any more",
  operator: "an operator parked it",
};

let state = "parked";
let chosen = false;
let wanted = PAGE;
let counts = {};
let operates = false;
let changed = () => {};
let stats = { upstream: "", at: 0, counts: {} };

export function prepare(soon) {
  changed = soon;
  const options = [...STATES.map((word) => [word, word]), ["", "all"]];
  choice(by("letters-states"), "state", options, state, (value) => {
    state = value;
    chosen = true;
    wanted = PAGE;
    soon();
  });
  by("letters-upstream").addEventListener("change", () => {
    wanted = PAGE;
    soon();
  });
  by("letters-more").addEventListener("click", () => {
    wanted = Math.min(wanted + PAGE, MOST);
    soon();
  });
  by("replay-all").addEventListener("click", () => all("replay"));
  by("discard-all").addEventListener("click", () => all("discard"));
}

const filter = () => ({ state, upstream: by("letters-upstream").value });

/** What is wrong with the letters and their store. */
export function wrong(overview) {
  const log = overview.dead_letters;
  if (!log) return [];
  const found = [];
  if (!log.healthy) found.push({ level: "bad", what: "The store cannot be written", why: "no letter is taken; it is tried again each second" });
  else if (log.full) found.push({ level: "bad", what: "The store is full", why: "no letter is taken until there is room" });
  const { parked = 0, pending = 0, sending = 0 } = log.by_state ?? {};
  if (parked) found.push({ level: "warn", what: `${many(parked, "letter")} wait for an operator`, why: "parked: see below" });
  if (pending + sending) found.push({ level: "warn", what: `${many(pending + sending, "letter")} to be delivered`, why: "pending: sent again by themselves" });
  return found;
}

export async function refresh(overview) {
  const log = overview.dead_letters;
  operates = overview.caller ? overview.caller.role === "operator" : true;
  by("letters-none").hidden = Boolean(log);
  by("letters-all").hidden = !log;
  if (!log) return;
  names(overview.upstreams);
  counts = await counted(log, by("letters-upstream").value);
  if (!chosen) first();
  count();
  const page = await get("/api/v1/letters", { ...filter(), limit: String(wanted) });
  const { letters } = page;
  renewRows(by("letters").tBodies[0], letters.map(shown));
  by("letters").parentElement.hidden = letters.length === 0;
  by("letters-empty").textContent = letters.length ? "" : `No letter is ${state || "here"}.`;
  by("letters-more").hidden = !page.next || wanted >= MOST;
}

/** Letters by state. Those of one upstream are counted in the log itself, which may be long: not at every look. */
async function counted(log, upstream) {
  if (!upstream) return log.by_state;
  if (stats.upstream !== upstream || Date.now() - stats.at > 10_000) {
    const { by_state } = await get("/api/v1/letters/stats", { upstream });
    stats = { upstream, at: Date.now(), counts: by_state };
  }
  return stats.counts;
}

/** Nobody has chosen yet: what waits is shown, the worst first. */
function first() {
  const waits = ["parked", "pending"].find((word) => counts[word]) ?? "parked";
  if (waits !== state) {
    state = waits;
    by(`state-${state}`).checked = true;
  }
}

function names(upstreams) {
  const select = by("letters-upstream");
  const value = select.value;
  const all = upstreams.map((upstream) => upstream.name).sort();
  if (!renew(select, [make("option", { value: "" }, "all"), ...all.map((name) => make("option", { value: name }, name))], JSON.stringify(all))) return;
  select.value = all.includes(value) ? value : "";
}

function count() {
  const total = STATES.reduce((sum, word) => sum + (counts[word] ?? 0), 0);
  for (const word of [...STATES, ""]) {
    const label = by("letters-states").querySelector(`label[for="state-${word}"] .count`);
    const text = ` ${(word ? counts[word] ?? 0 : total).toLocaleString("en")}`;
    if (label.textContent !== text) label.textContent = text;
  }
  const meant = counts[state] ?? 0;
  const possible = operates && ["parked", "pending"].includes(state) && meant > 0;
  for (const [id, word] of [["replay-all", "Replay"], ["discard-all", "Discard"]]) {
    by(id).disabled = !possible;
    by(id).textContent = possible ? `${word} all ${Math.min(meant, BULK).toLocaleString("en")}…` : `${word} all…`;
  }
}

function shown(letter) {
  return row([
    ["Captured", time(letter.created_at)],
    ["Upstream", letter.upstream],
    ["Write", make("span", { class: "path" }, `${letter.method} ${letter.path}`), make("small", {}, bytes(letter.body_bytes))],
    ["State", mark(LEVEL[letter.state] ?? "none", letter.state),
      make("small", {}, words(letter.parked_because ?? letter.reason ?? ""))],
    ["Attempts", make("span", { class: "figure" }, String(letter.attempts.length)),
      make("small", {}, letter.state === "pending" && letter.next_attempt_at ? make("span", {}, "next ", time(letter.next_attempt_at)) : "")],
    ["", make("button", { type: "button", "aria-label": `Open letter ${letter.id}`, onclick: () => open(letter.id) }, "Open")],
  ], { "data-row": letter.id });
}

async function open(id) {
  try {
    const [letter, its] = await Promise.all([
      get(`/api/v1/letters/${encodeURIComponent(id)}`),
      // The letter is shown all the same.
      story(id).catch(() => null),
    ]);
    tell(letter, its);
  } catch (error) {
    say(`The letter cannot be shown: ${error.message}`);
  }
}

function tell(letter, its) {
  const acts = ["parked", "pending"].includes(letter.state) && operates
    ? make("div", { class: "bar" },
        make("button", { type: "button", class: "first", onclick: () => one("replay", letter) }, "Replay"),
        make("button", { type: "button", onclick: () => one("discard", letter) }, "Discard…"))
    : null;
  const attempts = letter.attempts.map((attempt) => [
    time(attempt.at), words(attempt.outcome), attempt.status ? String(attempt.status) : "–",
    make("span", {}, attempt.error ?? attempt.answer ?? "–"), span(attempt.duration_ms)]);
  const because = letter.parked_because;
  detail(`Letter ${letter.id}`,
    make("p", {}, mark(LEVEL[letter.state] ?? "none", letter.state), " ", because ? `${words(because)}${BECAUSE[because] ? `: ${BECAUSE[because]}` : ""}.` : ""),
    ...(acts ? [acts] : []),
    pairs([["Upstream", letter.upstream], ["Route", letter.route],
      ["Write", make("span", { class: "path" }, `${letter.method} ${letter.path}`)], ["Body", bytes(letter.body_bytes)],
      ["Captured", time(letter.created_at)], ["Stored for", words(letter.reason)], ["What the failed attempt did", words(letter.verdict)],
      ["May be sent twice", letter.repeatable ? "yes" : "no"], ["Next attempt", letter.next_attempt_at ? time(letter.next_attempt_at) : null],
      ["Given up at", letter.state === "pending" ? time(letter.expires_at) : null], ["Ordered by", letter.order_key], ["Idempotency key", letter.idempotency_key],
      ["Sealed with", letter.sealed_with], ["Locked", letter.locked]]),
    attempts.length ? table("Attempts", ["At", "Outcome", "Status", "Answer", "Took"], attempts) : make("p", { class: "quiet" }, "No attempt to deliver it has been made yet."),
    ...(its ? [make("h3", {}, "Its story"), ...told(its)] : []));
}

async function one(act, letter) {
  if (act === "discard" && !(await sure("Discard this letter?", `${letter.method} ${letter.path} of ${letter.upstream} will never be delivered.`, "Discard it"))) return;
  try {
    // The tag is of the letter as it was read: whoever was faster has changed it.
    await post(`/api/v1/letters/${encodeURIComponent(letter.id)}/${act}`, undefined, letter.etag);
    by("detail").close();
    say(act === "replay" ? "The letter is on its way again." : "The letter is discarded.");
  } catch (error) {
    const faster = error instanceof No && error.status === 412;
    say(faster ? "The letter has changed since: look again." : `Not done: ${error.message}`);
    if (faster) open(letter.id);
  }
  acted();
}

/** What was counted before counts no more. */
function acted() {
  stats.at = 0;
  changed();
}

async function all(act) {
  const asked = filter();
  const meant = Math.min(counts[state] ?? 0, BULK);
  const whose = asked.upstream ? ` of ${asked.upstream}` : " of all upstreams that this token sees";
  const warning = act === "discard"
    ? "They will never be delivered."
    : state === "parked" ? "Those that are ambiguous may then happen twice." : "They are sent again soon, their attempts counted anew.";
  const title = `${act === "replay" ? "Replay" : "Discard"} ${many(meant, "letter")}?`;
  if (!(await sure(title, `All ${asked.state} letters${whose}. ${warning}`, act === "replay" ? "Replay them" : "Discard them"))) return;
  try {
    const named = Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
    const { done, failed } = await post(`/api/v1/letters/${act}`, { filter: named, limit: BULK });
    const not = failed.length ? `; ${many(failed.length, "letter")} not, the first because ${failed[0].error}` : "";
    say(`${many(done.length, "letter")} ${act === "replay" ? "on their way again" : "discarded"}${not}.`);
  } catch (error) {
    say(`Not done: ${error.message}`);
  }
  acted();
}
