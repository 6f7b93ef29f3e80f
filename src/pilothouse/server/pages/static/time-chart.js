// <time-chart data-series>: panels on one time axis (uPlot), release marks through all of them, values on hover.
import { moment, write } from "./words.js";

const HEIGHT = 84;
const GUTTER = 64;
const EDGE = 20;
const BAD = new Set(["abort", "rollback"]);

/** A custom property as a colour that a canvas understands: light-dark() is resolved by the browser. */
function colour(host, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  host.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Points without a neighbour: a line cannot show them. */
function alone(u, series) {
  const values = u.data[series];
  return [...values.keys()].filter((i) => values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null);
}

class TimeChart extends HTMLElement {
  connectedCallback() {
    this.drawn = [];
    this.redraw = () => this.draw();
    this.resized = new ResizeObserver(() => {
      if (Math.abs(this.clientWidth - (this.width ?? 0)) > 1) this.draw();
    });
    document.addEventListener("themechange", this.redraw);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
    if (window.uPlot) this.resized.observe(this);
    else window.addEventListener("load", () => this.resized.observe(this), { once: true });
  }

  disconnectedCallback() {
    this.resized.disconnect();
    document.removeEventListener("themechange", this.redraw);
    this.scheme.removeEventListener("change", this.redraw);
    for (const plot of this.drawn) plot.destroy();
    this.drawn = [];
  }

  draw() {
    const data = JSON.parse(this.dataset.series);
    if (!window.uPlot || !data.t.length) return;
    for (const plot of this.drawn) plot.destroy();
    this.textContent = "";
    this.width = this.clientWidth;
    this.ink = { line: colour(this, "--series"), fill: colour(this, "--series-fill"), grid: colour(this, "--hair"), text: colour(this, "--ink-3"), mark: colour(this, "--ink-2"), bad: colour(this, "--fail") };
    this.flags = this.appendChild(document.createElement("div"));
    this.flags.className = "tc-flags";
    this.drawn = data.panels.map((panel, index) => this.panel(data, panel, index === data.panels.length - 1));
    this.flag(data);
  }

  panel(data, panel, last) {
    const box = this.appendChild(document.createElement("div"));
    box.className = "tc-panel";
    const label = box.appendChild(document.createElement("div"));
    label.className = "tc-label";
    const show = (index) => {
      label.textContent = panel.name;
      if (index === null || index === undefined) return;
      const value = label.appendChild(document.createElement("b"));
      const n = panel.form === "n" ? "" : `, n = ${write(data.n[index], "n")}`;
      value.textContent = write(panel.v[index], panel.form);
      label.append(`${n} · from ${moment(new Date(data.t[index] * 1000), "date")}`);
    };
    show(null);
    const ink = this.ink;
    const plot = new window.uPlot({
      width: this.width, height: HEIGHT + (last ? 24 : 0), padding: [18, EDGE, last ? 0 : 4, 0],
      legend: { show: false },
      cursor: { sync: { key: "overview" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { range: () => this.reach(data) }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.05 : panel.form === "share" ? 0.02 : 1] } },
      axes: [
        { show: true, size: last ? 24 : 0, stroke: ink.text, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false }, font: "11px Inter, system-ui, sans-serif", values: last ? (u, splits) => splits.map((s, i) => this.tick(s, splits, i)) : () => [] },
        { size: GUTTER, stroke: ink.text, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false }, font: "11px Inter, system-ui, sans-serif", space: 24, values: (u, splits) => splits.map((v) => (v === 0 ? "0" : panel.form === "n" && !Number.isInteger(v) ? "" : write(v, panel.form).replace(/(\.\d*?)0+(?= )/, "$1").replace(/\.(?= )/, ""))) },
      ],
      series: [{}, {
        stroke: ink.line, width: 1.5, fill: panel.bars ? ink.fill : undefined, spanGaps: false, points: panel.bars ? { show: false } : { show: true, size: 4, fill: ink.line, width: 0, filter: alone },
        paths: panel.bars ? window.uPlot.paths.bars({ size: [0.86, 40], align: 1 }) : undefined,
      }],
      hooks: {
        drawClear: [(u) => this.marks(u, data.marks)],
        setCursor: [(u) => show(u.cursor.idx)],
      },
    }, [data.t, panel.bars ? panel.v.map((v) => v || null) : panel.v], box);
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${panel.name} over time`);
    return plot;
  }

  /** The axis: from the first bucket's start to the last one's end. */
  reach(data) {
    return [data.t[0], data.t[data.t.length - 1] + data.bucket_s];
  }

  tick(seconds, splits, index) {
    const date = new Date(seconds * 1000);
    const span = splits[splits.length - 1] - splits[0];
    const first = index === 0 || new Date(splits[index - 1] * 1000).getDate() !== date.getDate();
    const day = () => new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" }).format(date);
    if (span > 4 * 86400) return first ? day() : "";
    return first && index ? day() : moment(date, "minute");  // the day stands in midnight's place: both would not fit
  }

  marks(u, marks) {
    const { ctx } = u;
    ctx.save();
    for (const mark of marks) {
      const x = Math.round(u.valToPos(mark.t, "x", true)) + 0.5;
      ctx.strokeStyle = BAD.has(mark.kind) ? this.ink.bad : this.ink.mark;
      ctx.setLineDash(mark.kind === "canary" ? [4, 4] : []);
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x, 0);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** Names of the marks above the first panel: those that went wrong first; one that would cover another is left out. */
  flag(data) {
    const [from, to] = this.reach(data);
    const taken = [];
    const order = [...data.marks].sort((a, b) => BAD.has(b.kind) - BAD.has(a.kind) || b.t - a.t);
    for (const mark of order) {
      if (mark.t < from || mark.t > to) continue;
      const x = GUTTER + ((mark.t - from) / (to - from)) * (this.width - GUTTER - EDGE);
      const flag = document.createElement("span");
      flag.className = BAD.has(mark.kind) ? "tc-flag bad" : "tc-flag";
      flag.textContent = `${{ promote: "↑", rollback: "↩", abort: "✕", canary: "◔", other: "•" }[mark.kind]} ${mark.text}`;
      this.flags.append(flag);
      const half = flag.offsetWidth / 2;
      const at = Math.min(Math.max(x, half), this.width - half);
      if (taken.some(([low, high]) => at - half < high + 4 && at + half > low - 4)) flag.remove();
      else { flag.style.left = `${at}px`; taken.push([at - half, at + half]); }
    }
  }
}
customElements.define("time-chart", TimeChart);
