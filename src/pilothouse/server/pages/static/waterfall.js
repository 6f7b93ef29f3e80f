// Keys within the waterfall: arrows move between steps; a line follows the pointer through every row.
class TraceWaterfall extends HTMLElement {
  connectedCallback() {
    this.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const steps = [...this.querySelectorAll("[data-step] > summary")];
      const next = steps[steps.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) { next.focus(); event.preventDefault(); }
    });
  }
}
customElements.define("trace-waterfall", TraceWaterfall);
