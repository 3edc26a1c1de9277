// What happened to one request, or to a letter: asked by its id, told step by step.

import { No, maybe } from "./api.js";
import { by, detail, make, pairs, say, span, table, words } from "./dom.js";

/** By a request's id or a letter's; null where nothing is known of it. */
export const story = (id) => maybe(`/api/v1/requests/${encodeURIComponent(id)}`);

const line = (config) => make("small", { class: "path" }, `${config.set_by ?? ""} ${config.key} = ${config.value ?? ""}`.trim());

/** Its elements, for a dialog. */
export function told(it) {
  const steps = (it.steps ?? []).map((step) => [
    span(step.at_ms), words(step.kind), make("span", {}, step.says ?? "", ...(step.config ? [make("br"), line(step.config)] : []))]);
  const by = it.decided_by;
  return [
    make("p", {}, make("strong", {}, "Whose it is now: "), it.owner ? `${it.owner.who}: ${it.owner.why ?? ""}` : "not known"),
    ...(steps.length ? [table("Step by step", ["After", "What", "Why"], steps)] : []),
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
