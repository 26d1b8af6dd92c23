// A grid of images with hard pixels. What it shows is the model's `page`; where the reader is goes back as `selected`,
// what the reader wants as a message: {open: place}, {mark: "keep" | "drop" | ""}, the same as mark_page,
// {page: 1 | -1}, {like: true} or {help: true}.
const MARKS = { k: "keep", d: "drop", u: "" };

function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function paint(canvas, page, i) {
  const [, channels, h, w] = page.shape;
  const bytes = new Uint8Array(page.pixels.buffer, page.pixels.byteOffset, page.pixels.byteLength);
  const image = new ImageData(w, h);
  for (let p = 0; p < h * w; p++) {
    for (let k = 0; k < 3; k++) image.data[4 * p + k] = bytes[(i * channels + (channels === 1 ? 0 : k)) * h * w + p];
    image.data[4 * p + 3] = 255;
  }
  canvas.width = w;
  canvas.height = h;
  canvas.style.width = `${w * page.zoom}px`;
  canvas.style.height = `${h * page.zoom}px`;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function render({ model, el }) {
  const box = element("div", "ltnb-grid");
  box.setAttribute("role", "listbox");
  box.dataset.lmSuppressShortcuts = "true"; // to JupyterLab, d d deletes a cell
  el.append(box);
  let cells = [];

  function draw() {
    const page = model.get("page");
    if (!page.shape) return;
    const had = box.contains(document.activeElement);
    const rows = page.rows.length > 0;
    box.replaceChildren();
    box.setAttribute("aria-label", page.label);
    box.classList.toggle("inside", page.inside);
    box.style.gridTemplateColumns = (rows ? "max-content " : "") + `repeat(${page.columns}, max-content)`;
    if (page.heads.length) {
      if (rows) box.append(element("span", "head"));
      for (const text of page.heads) box.append(element("span", "head", text));
    }
    cells = page.captions.map((caption, i) => {
      if (rows && i % page.columns === 0) box.append(element("span", "row", page.rows[i / page.columns]));
      if (caption === null) {
        box.append(element("span", ""));
        return null;
      }
      const cell = element("div", `cell ${page.marks[i] || ""}`);
      cell.setAttribute("role", "option");
      cell.setAttribute("aria-label", [page.titles[i] || caption, page.marks[i]].filter(Boolean).join(", "));
      cell.title = page.titles[i] || "";
      const canvas = element("canvas", "");
      paint(canvas, page, i);
      const text = element("span", "caption", caption);
      if (page.colors[i]) text.style.borderTopColor = page.colors[i];
      cell.append(canvas, text);
      cell.addEventListener("click", () => select(i));
      cell.addEventListener("dblclick", () => model.send({ open: i }));
      box.append(cell);
      return cell;
    });
    show();
    if (had) focus();
  }

  function show() {
    const at = model.get("selected");
    const stop = cells[at] ? at : cells.findIndex((c) => c !== null); // one cell of the grid is in the tab order
    cells.forEach((cell, i) => {
      if (cell === null) return;
      cell.tabIndex = i === stop ? 0 : -1;
      cell.setAttribute("aria-selected", String(i === at));
    });
  }

  function focus() {
    const stop = cells.find((c) => c !== null && c.tabIndex === 0);
    if (stop) stop.focus({ preventScroll: true });
  }

  function select(i) {
    if (!cells[i]) return; // an empty page
    model.set("selected", i);
    model.save_changes();
    show();
    focus();
  }

  function walk(step) {
    let i = model.get("selected");
    if (!cells[i]) return select(cells.findIndex((c) => c !== null));
    do i += step;
    while (i >= 0 && i < cells.length && cells[i] === null);
    if (i < 0 || i >= cells.length) model.send({ page: Math.sign(step) });
    else select(i);
  }

  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = model.get("page").columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    const places = cells.map((c, i) => (c === null ? -1 : i)).filter((i) => i >= 0);
    if (event.key in steps) walk(steps[event.key]);
    else if (event.key === "Home") select(places[0]);
    else if (event.key === "End") select(places[places.length - 1]);
    else if (event.key === "PageDown") model.send({ page: 1 });
    else if (event.key === "PageUp") model.send({ page: -1 });
    else if (event.key === "?") model.send({ help: true });
    else if (event.key === "l") model.send({ like: true });
    else if (event.key === "Enter" || event.key === " ") {
      if (!cells[model.get("selected")]) select(places[0]);
      if (cells[model.get("selected")]) model.send({ open: model.get("selected") });
    } else if (event.key in MARKS) model.send({ mark: MARKS[event.key] });
    else if (event.key.toLowerCase() in MARKS) model.send({ mark_page: MARKS[event.key.toLowerCase()] });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  model.on("change:page", draw);
  model.on("change:selected", () => {
    const had = box.contains(document.activeElement);
    show();
    if (had) focus();
  });
  draw();
}

export default { render };
