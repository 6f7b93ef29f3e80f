// What every page does: theme, times in the reader's zone, keys, copying, sparklines' hover.

import { moment, write } from "./words.js";

function localise(root) {
  for (const text of root.querySelectorAll("text[data-us]")) text.textContent = moment(new Date(text.dataset.us / 1000), text.dataset.form);
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (Number.isNaN(date.valueOf())) continue;
    time.title = `${moment(date, "full")} (${date.toISOString()})`;
    if (time.dataset.form !== "ago") time.textContent = moment(date, time.dataset.form || "full");
  }
}

class ThemeSwitch extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      document.cookie = `ph_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
      document.dispatchEvent(new Event("themechange"));
    });
  }
}

class CopyText extends HTMLElement {
  connectedCallback() {
    this.querySelector("button")?.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.querySelector("code").textContent);
      say("Copied", this.getBoundingClientRect());
      setTimeout(hush, 900);
    });
  }
}

const tip = () => document.getElementById("tip");
function say(text, rect, x = rect.left + rect.width / 2) {
  const box = tip();
  box.textContent = "";
  const [figure, ...rest] = text.split("\n");
  const strong = document.createElement("b");
  strong.textContent = figure;
  box.append(strong, rest.length ? ` ${rest.join(" ")}` : "");
  box.hidden = false;
  const left = Math.min(Math.max(8, x - box.offsetWidth / 2), innerWidth - box.offsetWidth - 8);
  box.style.left = `${left}px`;
  box.style.top = `${rect.top > 44 ? rect.top - box.offsetHeight - 4 : rect.bottom + 4}px`;
}
function hush() { tip().hidden = true; }

class SparkLine extends HTMLElement {
  connectedCallback() {
    this.addEventListener("pointermove", (event) => this.point(event));
    this.addEventListener("pointerleave", () => { hush(); for (const line of document.querySelectorAll("line.cursor")) line.remove(); });
  }
  point(event) {
    const values = this.dataset.v.split(",");
    const rect = this.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - rect.left) / rect.width));
    const index = Math.round(part * (values.length - 1));
    // The same moment is shown on every sparkline of the page: they share their time axis.
    for (const other of document.querySelectorAll("spark-line")) other.cursor(index / Math.max(1, values.length - 1));
    const at = new Date((Number(this.dataset.t) + index * Number(this.dataset.s)) * 1000);
    const value = values[index] === "" ? null : Number(values[index]);
    say(`${write(value, this.dataset.f)}\n${this.dataset.name}, from ${moment(at, "date")}`, rect, event.clientX);
  }
  cursor(part) {
    const svg = this.querySelector("svg");
    const line = svg.querySelector("line.cursor") ?? svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
    line.setAttribute("class", "cursor");
    const x = (part * 480).toFixed(1);
    for (const [name, v] of [["x1", x], ["x2", x], ["y1", 0], ["y2", 48]]) line.setAttribute(name, v);
  }
}

customElements.define("theme-switch", ThemeSwitch);
customElements.define("copy-text", CopyText);
customElements.define("spark-line", SparkLine);

// --- keys: j k move through rows, Enter opens, / searches, g and a letter goes to a page
const PAGES = { o: "/", t: "/traces", r: "/releases", f: "/flags", v: "/review", a: "/alerts" };
let going = false;

function rows() { return [...document.querySelectorAll("[data-keys] tbody tr")]; }
function step(by) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.classList.contains("at"));
  const next = Math.min(all.length - 1, Math.max(0, now + by));
  all[now]?.classList.remove("at");
  all[now]?.removeAttribute("aria-current");
  all[next].classList.add("at");
  all[next].setAttribute("aria-current", "true");
  all[next].querySelector("a")?.focus({ preventScroll: true });
  all[next].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (going) {
    going = false;
    if (PAGES[event.key]) location.assign(PAGES[event.key]);
    return;
  }
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  else if (event.key === "g") going = true;
  else if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) { search.focus(); search.select(); } else location.assign("/traces");
  } else if (event.key === "Enter" && !event.target.matches("a, button, summary")) {
    const row = document.querySelector("tr.at[data-open]");
    if (row) location.assign(row.dataset.open);
    return;
  } else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) { print(); return; }
  const row = event.target.closest("tr[data-open]");
  if (row && !event.target.closest("a, button, input, summary") && !getSelection().toString()) location.assign(row.dataset.open);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

// --- a part that is looked at asks for its news every `data-every` seconds; in a hidden tab, or pointed at, it waits
const BUSY = "spark-line:hover, time-chart:hover, .ev-chart:hover, copy-text:hover";
let seconds = 0;
setInterval(() => {
  seconds += 1;
  if (document.hidden || (getSelection().toString() && !document.activeElement.matches("input, textarea"))) return;
  for (const live of document.querySelectorAll("[data-every]")) {
    const waits = live.matches(":focus-within:not([data-keep])");
    if (seconds % Number(live.dataset.every) === 0 && !waits && !live.querySelector(BUSY)) live.dispatchEvent(new Event("refresh"));
  }
}, 1_000);

// What a person has opened, scrolled and focused in such a part is kept when its news come.
const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
const kept = new WeakMap();
document.addEventListener("htmx:beforeSwap", (event) => {
  const live = event.detail.target;
  if (!live?.matches("[data-keep]")) return;
  const focusable = [...live.querySelectorAll(FOCUSABLE)];
  kept.set(live, {
    open: [...live.querySelectorAll("details")].map((one) => one.open),
    scrolled: [...live.querySelectorAll(".ev-scroll")].map((one) => one.scrollLeft),
    count: focusable.length,
    focus: focusable.indexOf(document.activeElement),
  });
});
document.addEventListener("htmx:afterSwap", (event) => {
  const live = event.detail.target;
  const was = kept.get(live);
  if (!was) return;
  kept.delete(live);
  if (live.querySelector("[data-ended]")) live.removeAttribute("data-every");
  const opened = [...live.querySelectorAll("details")];
  if (opened.length === was.open.length) opened.forEach((one, i) => { one.open = was.open[i]; });
  live.querySelectorAll(".ev-scroll").forEach((one, i) => { one.scrollLeft = was.scrolled[i] ?? 0; });
  const focusable = [...live.querySelectorAll(FOCUSABLE)];
  if (was.focus >= 0) (focusable[Math.min(was.focus, focusable.length - 1)] ?? document.getElementById("main")).focus({ preventScroll: true });
});

localise(document);
function fold() { if (innerWidth <= 1180) document.querySelector(".facet-fold")?.removeAttribute("open"); }
fold();
document.addEventListener("htmx:afterSwap", (event) => {
  localise(event.target.parentNode ?? document);
  if (event.target.id === "results") fold();
});
