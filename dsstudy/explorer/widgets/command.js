// A text with a button that copies it.
function render({ model, el }) {
  const text = document.createElement("pre");
  const button = document.createElement("button");
  button.className = "jupyter-button";
  const draw = () => {
    text.textContent = model.get("text");
    button.textContent = "Copy";
  };
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(text);
    try {
      await navigator.clipboard.writeText(model.get("text"));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected: press Ctrl+C"; // the browser denies access to the clipboard
    }
  });
  el.classList.add("dsstudy-command");
  el.append(button, text);
  model.on("change:text", draw);
  draw();
}

export default { render };
