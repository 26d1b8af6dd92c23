// Points on two canvases: below the points, drawn when they change; above them the lasso and a ring around one of them.
// What it shows are the model's `page` (places, sources, limits) and `chosen` (a byte for each point). Where the reader
// is goes back as `selected`, what the reader wants as a message: {lasso: [[x, y], …]}, {open: place}, {zoom: 1 | -1}
// or {clear: true}.
const WIDTH = 620;
const HEIGHT = 460;
const MARGIN = 12;
const STEPS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const ZOOM = { "+": 1, "=": 1, "-": -1, 0: -1 };

function canvas(ratio) {
  const c = document.createElement("canvas");
  c.width = WIDTH * ratio;
  c.height = HEIGHT * ratio;
  c.getContext("2d").scale(ratio, ratio);
  return c;
}

function sprite({ color, shape }, r, ratio) {
  const c = document.createElement("canvas");
  c.width = c.height = Math.ceil((2 * r + 4) * ratio);
  const pen = c.getContext("2d");
  pen.scale(ratio, ratio);
  pen.translate(r + 2, r + 2);
  if (shape === "dot") pen.arc(0, 0, r, 0, 2 * Math.PI);
  else [[0, -1.3 * r], [1.2 * r, r], [-1.2 * r, r]].forEach((p) => pen.lineTo(...p));
  pen.closePath();
  pen.fillStyle = pen.strokeStyle = color;
  pen.lineWidth = 1.4;
  if (shape === "hollow") pen.stroke();
  else pen.fill();
  return c;
}

function render({ model, el }) {
  const ratio = window.devicePixelRatio || 1;
  const box = document.createElement("div");
  box.className = "ltnb-map";
  box.tabIndex = 0;
  box.setAttribute("role", "application");
  box.dataset.lmSuppressShortcuts = "true";
  const [below, above] = [canvas(ratio), canvas(ratio)];
  box.append(below, above);
  el.append(box);
  let xs = [], ys = [], sources = [], scale = 1, left = 0, top = 0; // places on the screen
  let lasso = null;

  const bytes = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  const ink = () => getComputedStyle(box).color;

  function place() {
    const page = model.get("page");
    const xy = new Float32Array(bytes(page.xy));
    sources = new Uint8Array(bytes(page.source));
    const [x0, x1, y0, y1] = page.limits;
    scale = Math.min((WIDTH - 2 * MARGIN) / (x1 - x0), (HEIGHT - 2 * MARGIN) / (y1 - y0));
    left = WIDTH / 2 - (scale * (x0 + x1)) / 2;
    top = HEIGHT / 2 + (scale * (y0 + y1)) / 2;
    xs = sources.length ? Float32Array.from(sources, (_, i) => left + scale * xy[2 * i]) : [];
    ys = sources.length ? Float32Array.from(sources, (_, i) => top - scale * xy[2 * i + 1]) : [];
    box.setAttribute("aria-label", page.label);
  }

  function draw() {
    const page = model.get("page");
    if (!page.xy) return;
    place();
    const pen = below.getContext("2d");
    const chosen = new Uint8Array(bytes(model.get("chosen")));
    const some = chosen.includes(1);
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    for (const among of some ? [0, 1] : [0]) // what is chosen lies on top
      for (const s of page.order) {
        const r = (xs.length > 5000 ? 2.5 : 3.5) + (page.sources[s].shape === "filled");
        const drawn = sprite(page.sources[s], r, ratio);
        pen.globalAlpha = !some ? 0.75 : among ? 1 : 0.25;
        for (let i = 0; i < xs.length; i++)
          if (sources[i] === s && (!some || chosen[i] === among))
            pen.drawImage(drawn, xs[i] - r - 2, ys[i] - r - 2, drawn.width / ratio, drawn.height / ratio);
      }
    pen.globalAlpha = 1;
    mark();
  }

  function mark() {
    const pen = above.getContext("2d");
    const at = model.get("selected");
    pen.clearRect(0, 0, WIDTH, HEIGHT);
    pen.strokeStyle = ink();
    pen.lineWidth = 2;
    pen.setLineDash([]);
    if (at >= 0 && at < xs.length) {
      pen.beginPath();
      pen.arc(xs[at], ys[at], 8, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (!lasso) return;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    lasso.forEach((p) => pen.lineTo(...p));
    pen.closePath();
    pen.stroke();
  }

  function nearest(distance) {
    let best = -1, least = Infinity;
    for (let i = 0; i < xs.length; i++) {
      const d = distance(xs[i], ys[i]);
      if (d < least) [best, least] = [i, d];
    }
    return best;
  }

  function select(i) {
    if (i < 0) return;
    model.set("selected", i);
    model.save_changes();
    mark();
  }

  function walk([dx, dy]) {
    const at = model.get("selected");
    const [x, y] = at >= 0 && at < xs.length ? [xs[at], ys[at]] : [WIDTH / 2, HEIGHT / 2];
    if (at < 0) return select(nearest((a, b) => Math.hypot(a - x, b - y)));
    select(nearest((a, b) => {
      const ahead = (a - x) * dx + (b - y) * dy;
      const aside = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      const seen = ahead > 0 && aside <= ahead && a >= 0 && a <= WIDTH && b >= 0 && b <= HEIGHT;
      return seen ? ahead + aside : Infinity;
    }));
  }

  function where(event) {
    const { x, y, width } = box.getBoundingClientRect();
    const zoom = WIDTH / (width - 2); // less the border
    return [(event.clientX - x - 1) * zoom, (event.clientY - y - 1) * zoom];
  }

  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    lasso = [where(event)];
    box.setPointerCapture(event.pointerId);
    box.focus({ preventScroll: true });
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => {
    if (!lasso) return;
    const [p, last] = [where(event), lasso[lasso.length - 1]];
    if (Math.hypot(p[0] - last[0], p[1] - last[1]) < 3) return;
    lasso.push(p);
    mark();
  });
  box.addEventListener("pointerup", () => {
    if (!lasso) return;
    const drawn = lasso;
    lasso = null;
    mark();
    if (drawn.length > 2) model.send({ lasso: drawn.map(([x, y]) => [(x - left) / scale, (top - y) / scale]) });
    else {
      const [x, y] = drawn[0];
      const i = nearest((a, b) => (Math.hypot(a - x, b - y) < 15 ? Math.hypot(a - x, b - y) : Infinity));
      select(i);
      if (i >= 0) model.send({ open: i });
    }
  });
  box.addEventListener("pointercancel", () => { lasso = null; mark(); });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in STEPS) walk(STEPS[event.key]);
    else if (event.key in ZOOM) model.send({ zoom: ZOOM[event.key] });
    else if (event.key === "Escape") model.send({ clear: true });
    else if (event.key === "Enter" || event.key === " ") {
      if (model.get("selected") < 0) walk([1, 0]);
      if (model.get("selected") >= 0) model.send({ open: model.get("selected") });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  model.on("change:page change:chosen", draw);
  model.on("change:selected", mark);
  const themes = new MutationObserver(mark);
  themes.observe(document.body, { attributes: true });
  draw();
  return () => themes.disconnect();
}

export default { render };
