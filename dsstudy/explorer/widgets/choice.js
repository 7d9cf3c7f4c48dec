// A question and its answers: radio buttons, or checkboxes if several may be chosen.
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function swatch({ color, dashes }) {
  const drawing = element("span", "dsstudy-swatch");
  drawing.innerHTML = `<svg width="34" height="10" aria-hidden="true">
    <line x1="1" y1="5" x2="33" y2="5" stroke="${color}" stroke-width="3"
      stroke-dasharray="${dashes}"/></svg>`;
  return drawing;
}

function render({ model, el }) {
  const name = `dsstudy-${Math.random()}`; // radio buttons of one name exclude one another

  function choose() {
    const checked = [...el.querySelectorAll("input:checked")].map((input) => input.value);
    if (checked.length >= model.get("least")) {
      model.set("chosen", checked);
      model.save_changes();
    }
    draw(); // also if the choice was refused
  }

  function answer(option) {
    const input = element("input", "");
    input.type = model.get("several") ? "checkbox" : "radio";
    Object.assign(input, { name, value: option.value, disabled: Boolean(option.reason) });
    input.checked = model.get("chosen").includes(option.value);
    input.addEventListener("change", choose);
    const label = element("label", "dsstudy-answer", input, element("span", "", option.label));
    label.title = option.reason || "";
    if (option.color) input.after(swatch(option));
    if (option.note) label.append(element("small", "dsstudy-note", option.note));
    return label;
  }

  function reason(option) {
    return element("p", "dsstudy-reason", element("b", "", option.label), `: ${option.reason}`);
  }

  function draw() {
    const focused = el.contains(document.activeElement) && document.activeElement.value;
    const options = model.get("options");
    const answers = element("div", "dsstudy-answers", ...options.map(answer));
    const field = element("fieldset", `dsstudy-choice dsstudy-${model.get("form")}`);
    field.append(element("legend", "", model.get("question")), answers);
    field.append(...options.filter((option) => option.reason).map(reason));
    el.replaceChildren(field);
    [...el.querySelectorAll("input")].find((input) => input.value === focused)?.focus();
  }

  model.on("change:options change:chosen", draw);
  draw();
  // plotly measures a figure before it is on the page, and again only when the window is resized.
  const fit = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
  if (model.get("form") === "list") fit.observe(el); // the list is below the figure
  return () => fit.disconnect();
}

export default { render };
