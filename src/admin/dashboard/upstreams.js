// The upstreams: which of them is sick, why, how it fares, and an operator's word to its breakers.

import { get, post } from "./api.js";
import { by, chart, detail, make, many, mark, number, pairs, renewRows, row, say, span, sure, table, words } from "./dom.js";

const LEVEL = { closed: "good", open: "bad", half_open: "warn", forced_open: "bad", forced_closed: "warn" };
const badness = (upstream) =>
  ({ bad: 4, warn: 2 })[LEVEL[upstream.breaker]] ?? (upstream.status === "unhealthy" ? 3 : upstream.paused_scopes || upstream.shed ? 1 : 0);

/** Why a breaker does not let all through. */
function reason(breaker) {
  const of = breaker.route ? `route ${breaker.route}: ` : "";
  const keys = Object.entries(breaker.keys ?? {}).filter(([state]) => state !== "closed");
  const some = keys.length ? `${keys.map(([state, count]) => `${many(count, "key")} ${words(state)}`).join(", ")}; ` : "";
  if (breaker.state === "forced_open") return `${of}by an operator’s word: it refuses every request`;
  if (breaker.state === "forced_closed") return `${of}by an operator’s word: it refuses nothing`;
  const counted = breaker.calls
    ? `${breaker.failures} of ${many(breaker.calls, "call")} failed${breaker.slow ? `, ${breaker.slow} slow` : ""}`
    : breaker.consecutive_failures ? `${many(breaker.consecutive_failures, "failure")} in a row` : "";
  const again = breaker.reopenings ? `it has opened again ${many(breaker.reopenings, "time")}` : "";
  const probing = breaker.state !== "half_open" ? "" : breaker.probes
    ? `${many(breaker.probes, "probe")} on the way`
    : "no probe is on its way: the next request is one";
  return of + some + ([counted, again, probing].filter(Boolean).join("; ") || "nothing has been counted since it opened");
}

/** What is wrong with the upstreams, the worst first. */
export function wrong(listed, breakers) {
  const found = [];
  for (const upstream of sorted(listed)) {
    const own = breakers.filter((each) => each.upstream === upstream.name && each.enabled && LEVEL[each.state] !== "good");
    for (const breaker of own) {
      const observes = breaker.observe ? " (it only observes)" : "";
      found.push({ level: breaker.observe ? "warn" : LEVEL[breaker.state], what: `${upstream.name}: breaker ${words(breaker.state)}${observes}`, why: reason(breaker) });
    }
    if (upstream.check === "down") found.push({ level: "bad", what: `${upstream.name}: its health check is down`, why: "" });
    if (upstream.paused_scopes) found.push({ level: "warn", what: `${upstream.name}: paused at its own word`, why: many(upstream.paused_scopes, "scope") });
    if (upstream.shed) found.push({ level: "warn", what: `${upstream.name}: its requests are shed`, why: "at this degradation level" });
  }
  return found;
}

const sorted = (listed) => [...listed].sort((one, other) => badness(other) - badness(one) || one.name.localeCompare(other.name));

let operates = false;
let changed = () => {};

export function prepare(soon) {
  changed = soon;
}

export function show(listed, breakers, caller) {
  operates = caller ? caller.role === "operator" : true;
  renewRows(by("upstreams").tBodies[0], sorted(listed).map((upstream) => shown(upstream, breakers)));
}

function shown(upstream, breakers) {
  const { lately, history } = upstream;
  const retry = breakers
    .filter((each) => each.upstream === upstream.name && each.retry_in_ms !== null)
    .map((each) => each.retry_in_ms);
  const latency = lately.latency_p95_ms;
  const failed = lately.failed_per_second;
  return row([
    ["Upstream",
      make("button", { type: "button", class: "link", onclick: () => look(upstream.name) }, upstream.name),
      make("small", {}, [upstream.dialect, upstream.criticality === "normal" ? "" : upstream.criticality].filter(Boolean).join(" · "))],
    ["Breaker", mark(LEVEL[upstream.breaker], words(upstream.breaker)),
      make("small", {}, [
        retry.length ? `probe in ${span(Math.min(...retry))}` : "",
        upstream.check ? `check ${upstream.check}` : "",
        upstream.paused_scopes ? `paused for ${span(upstream.paused_for_ms)}` : "",
        upstream.shed ? "shed" : "",
      ].filter(Boolean).join(" · "))],
    ["Requests", make("div", { class: "beside" },
      make("span", { class: "figure" }, `${number(lately.requests_per_second)}/s`),
      make("small", { class: failed > 0 ? "bad" : "" }, failed > 0 ? `${number(failed)}/s fail` : "none fails")),
      chart(`Requests each second, at most ${number(Math.max(...history.requests_per_second, 0))}; failed, at most ${number(Math.max(...history.failed_per_second, 0))}`,
        history.requests_per_second, history.failed_per_second)],
    ["Latency of attempts", make("div", { class: "beside" },
      make("span", { class: "figure" }, span(lately.latency_avg_ms)),
      make("small", {}, latency === null ? "no attempt" : `95%: ~${span(latency)}`)),
      chart(`Latency of 95% of attempts, at most ${span(Math.max(...history.latency_p95_ms.map((ms) => ms ?? 0), 0))}`, history.latency_p95_ms)],
    ["In flight", make("span", { class: "figure" }, `${upstream.in_flight} of ${upstream.concurrency_limit}`),
      make("small", { class: upstream.queued ? "bad" : "" }, upstream.queued ? `${upstream.queued} wait` : "")],
    ["Retries left", make("span", { class: "figure" }, number(upstream.retry_budget_available)),
      make("small", {}, lately.retries_per_second ? `${number(lately.retries_per_second)}/s made` : "")],
    ["Letters", make("span", { class: "figure" }, `${upstream.pending_letters.toLocaleString("en")} pending`),
      make("small", { class: upstream.parked_letters ? "bad" : "" }, upstream.parked_letters ? `${upstream.parked_letters.toLocaleString("en")} parked` : "")],
  ], { "data-row": upstream.name, class: badness(upstream) >= 3 ? "sick" : "" });
}

/** What an operator may say to a breaker: the word, the button's, what is asked before, and what is said after. */
const WORDS = {
  "force-open": ["Force open…", "Force open", "It refuses every request until another word.", "is forced open"],
  "force-close": ["Force closed…", "Force closed", "It refuses nothing until another word, however much fails.", "is forced closed"],
  auto: ["By itself again…", "Leave to itself", "It decides by itself again, from closed.", "decides by itself again"],
};

/** Its buttons; null where it would obey no word, or not this token's. */
function byHand(name, breaker) {
  if (!operates || !breaker.enabled || breaker.observe) return null;
  const whose = breaker.route ? `route ${breaker.route}` : "the upstream";
  const possible = { forced_open: ["force-close", "auto"], forced_closed: ["force-open", "auto"] }[breaker.state] ?? ["force-open", "force-close"];
  return make("div", { class: "bar", role: "group", "aria-label": `Breaker of ${whose}, by hand` },
    make("span", { class: "quiet" }, `Breaker of ${whose}:`),
    ...possible.map((word) => make("button", { type: "button", onclick: () => speak(name, breaker.route, word) }, WORDS[word][0])));
}

async function speak(name, route, word) {
  const [, yes, means, done] = WORDS[word];
  const whose = route ? `${name}, route ${route}` : name;
  if (!(await sure(`${yes}: ${whose}?`, means, yes))) return;
  try {
    await post(`/api/v1/breakers/${encodeURIComponent(name)}/${word}?route=${encodeURIComponent(route)}`);
    say(`The breaker of ${whose} ${done}.`);
    await look(name);
  } catch (error) {
    say(`Not done: ${error.message}`);
  }
  changed();
}

async function look(name) {
  try {
    const upstream = await get(`/api/v1/upstreams/${encodeURIComponent(name)}`);
    detail(upstream.name,
      pairs([["Status", upstream.status], ["Dialect", upstream.dialect], ["Criticality", upstream.criticality],
        ["Health check", upstream.check], ["Connections", `${upstream.connections.active} active, ${upstream.connections.idle} idle`],
        ["Attempts since the start", Object.entries(upstream.attempts).filter(([, count]) => count).map(([outcome, count]) => `${outcome} ${count.toLocaleString("en")}`).join(", ") || "none"]]),
      table("Breakers", ["Of", "State", "Window", "Failures", "Next probe"], upstream.breakers.map((breaker) => [
        breaker.route ? `route ${breaker.route}` : "the upstream",
        breaker.enabled ? mark(LEVEL[breaker.state], words(breaker.state)) : mark("none", "switched off"),
        many(breaker.calls, "call"), `${breaker.failures} (${Math.round(breaker.failure_rate * 100)}%), ${breaker.consecutive_failures} in a row`,
        span(breaker.retry_in_ms)])),
      ...upstream.breakers.flatMap((breaker) => byHand(upstream.name, breaker) ?? []),
      table("Endpoints", ["URL", "Addresses", "In flight", "State"], upstream.endpoints.map((endpoint) => [
        endpoint.url, endpoint.addresses.join(", ") || "not resolved yet", String(endpoint.in_flight), endpoint.resting ? mark("warn", "resting") : mark("good", "used")])),
      make("details", {}, make("summary", {}, "Its policies in force"), make("pre", { tabindex: "0" }, JSON.stringify(upstream.policies, null, 2))));
  } catch (error) {
    say(`${name} cannot be shown: ${error.message}`);
  }
}
