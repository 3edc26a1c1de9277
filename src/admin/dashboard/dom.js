// How what is shown is made. Every text from outside goes in as text: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

export const by = (id) => document.getElementById(id);

/** An element with attributes and children; null children are left out, texts stay texts. */
export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Puts new children in the place of the old ones, unless they say the same: what has not changed is not read out again. */
export function renew(parent, children, key) {
  if (parent.dataset.key === key) return false;
  parent.replaceChildren(...children);
  parent.dataset.key = key;
  return true;
}

/** Brings a table's rows up to date. Cells that say the same stay, and with them the focus, a selection and a reader's place. */
export function renewRows(body, rows) {
  const gone = new Map([...body.rows].map((row) => [row.dataset.row, row]));
  const focused = document.activeElement;
  rows.forEach((fresh, at) => {
    const kept = gone.get(fresh.dataset.row);
    gone.delete(fresh.dataset.row);
    if (kept) {
      kept.className = fresh.className;
      [...fresh.cells].forEach((cell, n) => cell.isEqualNode(kept.cells[n]) || kept.cells[n].replaceWith(cell));
    }
    const row = kept ?? fresh;
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
  gone.forEach((row) => row.remove());
  // A row that was moved has lost it, too.
  if (document.activeElement === focused) return;
  const heir = focused.isConnected ? focused : body.querySelector("button") ?? focus(body);
  heir?.focus({ preventScroll: true });
}

/** The heading of the part in which something is, made ready to take the focus. */
function focus(within) {
  const heading = within.closest("section")?.querySelector("h2");
  heading?.setAttribute("tabindex", "-1");
  return heading;
}

/** A row of a table. Each cell: what stands in it, and the column's name, which small screens show. */
export function row(cells, attributes = {}) {
  const cell = ([label, ...children], at) =>
    at === 0
      ? make("th", { scope: "row", role: "rowheader", "data-label": label }, ...children)
      : make("td", { role: "cell", "data-label": label }, ...children);
  return make("tr", { role: "row", ...attributes }, ...cells.map(cell));
}

/** What does not fit is scrolled: by the keyboard too, which has to reach it then. */
const sizes = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    if (target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document.querySelectorAll(".wide").forEach((each) => sizes.observe(each));

/** A table of its own, for dialogs. */
export function table(caption, heads, rows) {
  const wide = make("div", { class: "wide", role: "group", "aria-label": caption },
    make("table", { role: "table" },
      make("caption", {}, caption),
      make("thead", { role: "rowgroup" },
        make("tr", { role: "row" }, ...heads.map((head) => make("th", { scope: "col", role: "columnheader" }, head)))),
      make("tbody", { role: "rowgroup" }, ...rows.map((cells) => row(cells.map((cell, at) => [heads[at], cell]))))));
  sizes.observe(wide);
  return wide;
}

/** Names and values. */
export function pairs(list) {
  const shown = list.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", {}, ...shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** A state: a shape and a word, so that the colour is no more than a help. */
export function mark(level, word) {
  const shape = {
    good: drawn("circle", { cx: 6, cy: 6, r: 4 }),
    warn: drawn("path", { d: "M6 1 11.5 11H.5Z" }),
    bad: drawn("path", { d: "M3.5.5h5l3 3v5l-3 3h-5l-3-3v-5Z" }),
    none: drawn("circle", { cx: 6, cy: 6, r: 3.5, fill: "none", stroke: "currentColor", "stroke-width": 1.5 }),
  }[level];
  const icon = drawn("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true", focusable: "false" }, shape);
  return make("span", { class: `mark ${level}` }, icon, word);
}

const WIDTH = 120;
const HEIGHT = 28;
/** Steps of a whole chart: ten minutes. */
const STEPS = 120;

/** A small chart: an area for all, one in front of it for a part of it. `text` says the same to who does not see it. */
export function chart(text, values, part = []) {
  const top = Math.max(...values.map((value) => value ?? 0), 0) || 1;
  const x = (at, count) => WIDTH - ((count - 1 - at) * WIDTH) / (STEPS - 1);
  const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
  const svg = drawn("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": text, preserveAspectRatio: "none",
  });
  svg.append(drawn("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, class: "ground" }));
  for (const [kind, series] of [["all", values], ["part", part.some((value) => value > 0) ? part : []]]) {
    for (const run of runs(series)) {
      const points = run.map(([at, value]) => `${x(at, series.length).toFixed(1)},${y(value).toFixed(1)}`);
      const [first, last] = [run[0][0], run[run.length - 1][0]].map((at) => x(at, series.length).toFixed(1));
      svg.append(drawn("polygon", { points: `${first},${HEIGHT} ${points.join(" ")} ${last},${HEIGHT}`, class: `area ${kind}` }));
      // One value alone is a dot.
      svg.append(drawn("polyline", { points: (run.length > 1 ? points : [...points, ...points]).join(" "), class: `line ${kind}` }));
    }
  }
  return svg;
}

/** Where there is no value the line breaks. */
function runs(series) {
  const found = [];
  let run = [];
  series.forEach((value, at) => {
    if (value === null) {
      if (run.length) found.push(run);
      run = [];
    } else run.push([at, value]);
  });
  if (run.length) found.push(run);
  return found;
}

export const number = (value) =>
  value === 0 ? "0" : value < 0.1 ? "<0.1" : value < 10 ? String(Math.round(value * 10) / 10) : Math.round(value).toLocaleString("en");

export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const bytes = (count) =>
  count < 1024 ? `${count} B` : count < 1048576 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / 1048576).toFixed(1)} MiB`;

/** What is not all is not shown as all: 99.996 is 99.99. */
export const share = (value) => (value === null ? "–" : value === 1 || value === 0 ? `${value * 100}%` : `${(Math.floor(value * 10000) / 100).toFixed(2)}%`);

/** A moment, as the reader's clock shows it; today's without the date. */
export function time(text) {
  if (!text) return make("span", {}, "–");
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const shown = today ? at.toLocaleTimeString() : at.toLocaleString();
  return make("time", { datetime: text, title: text }, shown);
}

export const words = (word) => String(word ?? "").replaceAll("_", " ");

/** One letter, two letters. */
export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

/** Says something once, for eyes and for readers. */
export function say(text) {
  const said = by("said");
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (said.textContent = ""), 8000);
}

/** Opens a dialog with these contents; a new one takes the old one's place. */
export function detail(title, ...children) {
  const dialog = by("detail");
  by("detail-title").textContent = title;
  by("detail-body").replaceChildren(...children);
  if (!dialog.open) {
    const [opener, home] = [document.activeElement, focus(document.activeElement)];
    dialog.addEventListener("close", () => opener.isConnected || home?.focus(), { once: true });
    dialog.showModal();
  }
  by("detail-title").focus();
}

/** Asks before something that cannot be taken back. Resolves to whether it is to be done. */
export function sure(title, text, yes) {
  const dialog = by("ask");
  by("ask-title").textContent = title;
  by("ask-text").textContent = text;
  by("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  by("ask-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Radio buttons that look like tabs. */
export function choice(fieldset, name, options, chosen, onchange) {
  for (const [value, label] of options) {
    const input = make("input", { type: "radio", name, id: `${name}-${value}`, value, checked: value === chosen });
    input.addEventListener("change", () => onchange(value));
    fieldset.append(input, make("label", { for: `${name}-${value}` }, make("span", {}, label), make("span", { class: "count" })));
  }
}

by("detail-close").addEventListener("click", () => by("detail").close());
by("ask-no").addEventListener("click", () => by("ask").close(""));
by("ask-yes").addEventListener("click", () => by("ask").close("yes"));
