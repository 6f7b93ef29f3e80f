// A verb that takes something back is sent only with the route's name typed; the server checks it again.
for (const form of document.querySelectorAll("form[data-confirm]")) {
  const field = form.elements.namedItem("confirm");
  const button = form.querySelector("button");
  const check = () => { button.disabled = field.value.trim() !== form.dataset.confirm; };
  field.addEventListener("input", check);
  check();
}
