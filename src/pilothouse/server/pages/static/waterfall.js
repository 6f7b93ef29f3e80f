// The waterfall: arrows move between steps; two steps that are ticked can be compared.
class TraceWaterfall extends HTMLElement {
  connectedCallback() {
    this.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const steps = [...this.querySelectorAll("[data-step] > summary")];
      const next = steps[steps.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) { next.focus(); event.preventDefault(); }
    });
    document.addEventListener("change", (event) => {
      if (event.target.form?.id !== "compare") return;
      const ticked = document.querySelectorAll("input[form=compare]:checked").length;
      document.querySelector("#compare button").disabled = ticked !== 2;
      document.querySelector("#compare").classList.toggle("some", ticked > 0);
    });
  }
}
customElements.define("trace-waterfall", TraceWaterfall);
