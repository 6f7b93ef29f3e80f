// The traces list: completion in the filter box, brushing of histograms, the live tail.

const form = () => document.querySelector("form.filters");

function find(line) {
  form().q.value = line;
  form().requestSubmit();
}

/** Completion: htmx fetches what could stand at the cursor, keys choose. */
class FilterBox extends HTMLElement {
  connectedCallback() {
    this.input = this.querySelector("#q");
    this.list = this.querySelector("#complete");
    this.at = this.querySelector("[name=at]");
    this.typed = 0;
    this.input.addEventListener("input", () => this.ask());
    this.input.addEventListener("click", () => this.ask());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    this.list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.take(event.target.closest("[role=option]"));
    });
    this.addEventListener("htmx:configRequest", (event) => { event.detail.parameters.at = this.input.selectionStart; });
    this.list.addEventListener("htmx:afterSwap", () => this.opened());
    form().addEventListener("htmx:configRequest", (event) => { if (event.target === form()) this.close(); });
  }
  ask() {
    clearTimeout(this.typed);
    this.typed = setTimeout(() => htmx.trigger(this.input, "complete"), 90);
  }
  get options() { return [...this.list.querySelectorAll("[role=option]")]; }
  opened() {
    const show = this.options.length > 0 && document.activeElement === this.input;
    this.list.hidden = !show;
    this.input.setAttribute("aria-expanded", String(show));
    this.input.removeAttribute("aria-activedescendant");
  }
  close() {
    clearTimeout(this.typed);
    this.list.replaceChildren();
    this.opened();
  }
  point(by) {
    const all = this.options;
    const now = all.findIndex((one) => one.getAttribute("aria-selected") === "true");
    const next = now < 0 ? (by > 0 ? 0 : all.length - 1) : (now + by + all.length) % all.length;
    all.forEach((one, i) => one.setAttribute("aria-selected", String(i === next)));
    this.input.setAttribute("aria-activedescendant", all[next].id);
    all[next].scrollIntoView({ block: "nearest" });
  }
  key(event) {
    if (event.key === "Escape") event.preventDefault();  // the browser would empty the box
    if (event.key === "ArrowDown" && this.list.hidden) { this.ask(); event.preventDefault(); return; }
    if (this.list.hidden) return;
    const chosen = this.list.querySelector("[aria-selected=true]");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.point(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Escape") { this.close(); event.stopPropagation(); }
    else if (event.key === "Tab" || (event.key === "Enter" && chosen)) this.take(chosen ?? this.options[0]);
    else return;
    event.preventDefault();
  }
  take(option) {
    if (!option) return;
    this.input.value = option.dataset.line;
    this.input.setSelectionRange(option.dataset.cursor, option.dataset.cursor);
    this.close();
    this.ask();
  }
}

/** Bars are links; dragging over several, or Shift with an arrow and Enter, takes them together. */
class BrushChart extends HTMLElement {
  connectedCallback() {
    this.from = this.to = -1;
    this.addEventListener("pointerdown", (event) => this.start(event));
    this.addEventListener("pointermove", (event) => { if (this.held) this.reach(this.under(event)); });
    this.addEventListener("pointerup", () => this.drop());
    this.addEventListener("pointercancel", () => { this.held = false; this.mark(-1, -1); });
    this.addEventListener("click", (event) => { if (this.brushed) { event.preventDefault(); event.stopPropagation(); this.brushed = false; } }, true);
    this.addEventListener("dragstart", (event) => event.preventDefault());
    this.addEventListener("keydown", (event) => this.key(event));
  }
  get bars() { return [...this.querySelectorAll("a")]; }
  under(event) {
    const box = this.getBoundingClientRect();
    const n = this.bars.length;
    return Math.min(n - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * n)));
  }
  start(event) {
    if (event.button) return;
    this.held = true;
    this.brushed = false;
    this.from = this.to = this.under(event);
    this.setPointerCapture(event.pointerId);
  }
  reach(to) { this.to = to; this.mark(this.from, to); }
  mark(a, b) {
    const [low, high] = [Math.min(a, b), Math.max(a, b)];
    this.bars.forEach((bar, i) => bar.classList.toggle("brushed", a >= 0 && i >= low && i <= high));
  }
  drop() {
    if (!this.held) return;
    this.held = false;
    this.brushed = true;
    if (this.from === this.to) { location.assign(this.bars[this.from].href.baseVal); } else this.apply();
  }
  apply() {
    const [low, high] = [Math.min(this.from, this.to), Math.max(this.from, this.to)];
    const range = `${this.bars[low].dataset.low}..${this.bars[high].dataset.high}`;
    find(`${this.dataset.rest} ${range === ".." ? "" : `${this.dataset.field}:${range}`}`.trim());
  }
  key(event) {
    const at = this.bars.indexOf(event.target.closest("a"));
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (at < 0) return;
    if (by) {
      const next = Math.min(this.bars.length - 1, Math.max(0, at + by));
      if (event.shiftKey) { if (this.from < 0) this.from = at; this.reach(next); } else { this.from = -1; this.mark(-1, -1); }
      this.bars[next].focus();
      event.preventDefault();
    } else if (event.key === "Enter" && this.from >= 0 && this.from !== this.to) {
      this.apply();
      event.preventDefault();
    } else if (event.key === "Escape") { this.from = -1; this.mark(-1, -1); }
  }
}

/** New rows as they come. While paused they are held; the newest hold the top. */
class LiveTail extends HTMLElement {
  connectedCallback() {
    this.held = [];
    this.n = 0;
    this.paused = false;
    this.button = this.querySelector("button");
    this.button.addEventListener("click", () => this.pause(!this.paused));
    this.source = new EventSource(this.dataset.src);
    this.source.onopen = () => this.say();
    this.source.onerror = () => { this.querySelector(".live-said").textContent = "Live: connecting again"; };
    this.source.addEventListener("rows", (event) => {
      const { n, html } = JSON.parse(event.data);
      this.n += n;
      if (this.paused) this.held.push({ n, html }); else this.show(html);
      this.say();
    });
  }
  disconnectedCallback() { this.source.close(); }
  show(html) {
    const body = document.getElementById(this.dataset.into);
    const holder = document.createElement("tbody");
    holder.innerHTML = html;
    for (const row of [...holder.children].reverse()) {
      if (body.querySelector(`[data-id="${CSS.escape(row.dataset.id)}"]`)) continue;
      row.classList.add("new");
      body.prepend(row);
    }
    while (body.children.length > 300) body.lastElementChild.remove();
    htmx.trigger(body, "htmx:afterSwap");
  }
  pause(on) {
    this.paused = on;
    this.button.textContent = on ? "Go on" : "Pause";
    this.button.setAttribute("aria-pressed", String(on));
    if (!on) { for (const one of this.held) this.show(one.html); this.held = []; }
    this.say();
  }
  say() {
    const waiting = this.held.reduce((sum, one) => sum + one.n, 0);
    this.querySelector(".live-said").textContent = this.paused ? `Paused: ${waiting} waiting` : `Live: ${this.n} new`;
    this.classList.toggle("paused", this.paused);
  }
}

customElements.define("filter-box", FilterBox);
customElements.define("brush-chart", BrushChart);
customElements.define("live-tail", LiveTail);
