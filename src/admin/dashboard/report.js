// How each upstream has fared over a day or a week.

import { get } from "./api.js";
import { by, choice, make, many, renewRows, row, share, span } from "./dom.js";

/** It changes slowly. */
const EVERY = 30_000;

let window_ = "24h";
let asked = 0;

export function prepare(soon) {
  choice(by("report-windows"), "window", [["24h", "24 hours"], ["7d", "7 days"]], window_, (value) => {
    window_ = value;
    asked = 0;
    soon();
  });
}

export async function refresh() {
  if (Date.now() - asked < EVERY) return;
  asked = Date.now();
  const report = await get("/api/v1/report", { window: window_ });
  renewRows(by("report").tBodies[0], report.upstreams.map(shown));
  const part = report.lacking_seconds > report.bucket_seconds ? `Counted for ${span(report.covered_seconds * 1000)} of this window. ` : "";
  const since = report.since ? `Known since ${new Date(report.since).toLocaleString()}` : "Nothing is known yet";
  const kept = report.kept_in === "memory" ? ", until the process ends" : "";
  by("report-known").textContent = `${part}${since}${kept}.`;
}

function shown(upstream) {
  const { letters } = upstream;
  return row([
    ["Upstream", upstream.upstream, make("small", {}, upstream.configured ? many(upstream.requests, "request") : "no longer configured")],
    ["Availability", make("span", { class: "figure" }, share(upstream.availability)),
      make("small", { class: upstream.failed ? "bad" : "" }, upstream.failed ? `${upstream.failed.toLocaleString("en")} failed` : "")],
    ["Upstream itself", make("span", { class: "figure" }, share(upstream.upstream_availability))],
    ["Retries", make("span", { class: "figure" }, share(upstream.retry_share)), make("small", {}, upstream.retries ? `${upstream.retries.toLocaleString("en")} made` : "")],
    ["Breaker open", make("span", { class: "figure" }, upstream.breaker_open_seconds ? span(upstream.breaker_open_seconds * 1000) : "–"),
      make("small", {}, upstream.breaker_opened ? many(upstream.breaker_opened, "time") : "")],
    ["Letters", make("span", { class: "figure" }, `${letters.captured.toLocaleString("en")} kept`), make("small", {}, `${letters.delivered.toLocaleString("en")} delivered`)],
  ], { "data-row": upstream.upstream });
}
