// What happened to one request, or to a letter: asked by its id, told step by step.

import { No, maybe } from "./api.js";
import { by, detail, make, pairs, say, span, table, words } from "./dom.js";

/** By a request's id or a letter's; null where nothing is known of it. */
export const story = (id) => maybe(`/api/v1/requests/${encodeURIComponent(id)}`);

const line = (config) => make("small", { class: "path" }, `${config.set_by ?? ""} ${config.key} = ${config.value ?? ""}`.trim());

/** What a letter's turn has come to, and under which id its own story is told. */
const replayed = (turn) => {
  const what = [turn.status ?? turn.error, words(turn.outcome), turn.verdict && words(turn.verdict)].filter(Boolean).join(", ");
  const place = [turn.endpoint && `at ${turn.endpoint}`, turn.request_id && `as request ${turn.request_id}`].filter(Boolean).join(", ");
  return { at_ms: turn.at_ms, kind: "replay", says: [what, `in ${span(turn.duration_ms)}`, place].filter(Boolean).join(", ") };
};

const acts = { "letter.replayed": "an operator has it sent again", "letter.discarded": "an operator has given it up" };

/** What else happened to a letter. */
const happened = (event) => {
  const what = acts[event.event] ?? words(event.event.replace(/^letter\./, ""));
  return { at_ms: event.at_ms, kind: "letter", says: [what + (event.because ? ` as ${words(event.because)}` : ""), event.who && `by ${event.who}`].filter(Boolean).join(", ") };
};

/** Its elements, for a dialog. */
export function told(it) {
  const later = [...(it.letter?.attempts ?? []).map(replayed), ...(it.letter?.events ?? []).map(happened)].sort((one, other) => one.at_ms - other.at_ms);
  const steps = [...(it.steps ?? []), ...later].map((step) => [
    span(step.at_ms), words(step.kind), make("span", {}, step.says ?? "", ...(step.config ? [make("br"), line(step.config)] : []))]);
  const by = it.decided_by;
  const parked = it.letter?.parked_by;
  return [
    make("p", {}, make("strong", {}, "Whose it is now: "), it.owner ? `${it.owner.who}: ${it.owner.why ?? ""}` : "not known"),
    ...(steps.length ? [table("Step by step", ["After", "What", "Why"], steps)] : []),
    ...(parked ? [make("p", {}, make("strong", {}, "Parked by "), line(parked))] : []),
    ...(by ? [make("p", {}, make("strong", {}, "Decided by "), line(by))] : []),
    ...(it.config_reloaded_at ? [make("p", { class: "quiet" }, `The config was read again since, at ${it.config_reloaded_at}: the lines are those of now.`)] : []),
  ];
}

/** The field that asks. */
export function prepare() {
  by("story-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const id = by("story-id").value.trim();
    if (!id) return;
    try {
      const it = await story(id);
      if (it === null) return say("Nothing is known of that id: plain successes are not kept, and of the others the last ones alone.");
      const heard = [it.status, it.source && words(it.source), it.reason && words(it.reason)].filter(Boolean).join(", ");
      detail(`What happened to ${id}`,
        pairs([["Request", it.id], ["At", it.at], ["Asked", it.method && make("span", { class: "path" }, `${it.method} ${it.path ?? ""}`)],
          ["Upstream", it.upstream], ["Route", it.route], ["Heard", heard], ["After", it.duration_ms === undefined ? null : span(it.duration_ms)],
          ["What it did upstream", it.verdict && words(it.verdict)]]),
        ...told(it));
    } catch (error) {
      say(error instanceof No ? `No: ${error.message}` : `It cannot be asked: ${error.message}`);
    }
  });
}
