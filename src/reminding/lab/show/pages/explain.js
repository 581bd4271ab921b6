// The page: its state, keys and pointers. scene.js draws, and details.js shows the numbers.

const LEAST_SPAN = 6; // steps in view when zoomed in as far as it goes
const COLOURS = ["paper", "surface", "ink", "quiet", "line", "recall", "credit", "recalled-by", "purple", "gold", "focus"];

const $ = (id) => document.getElementById(id);
const content = JSON.parse($("content").textContent);
const scene = { sequence: null, layer: null, view: { left: 0, span: 1 }, width: 1, height: 1, most: MOST[2], column: null, show: { recall: true, credit: true } };
const state = { focus: null, pinned: false, drawn: null, colours: null, waiting: false, readyMs: null };
const unpackedSequences = new Map();

function coloursNow() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** The colours of the light page, for saved pictures. */
function coloursOfPaper() {
  const { theme } = document.documentElement.dataset;
  document.documentElement.dataset.theme = "light";
  const colours = coloursNow();
  if (theme === undefined) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  return colours;
}

// Choosing what is shown

function chooseSequence(number) {
  if (!unpackedSequences.has(number)) unpackedSequences.set(number, new Sequence(content.sequences[number], content.legend));
  scene.sequence = unpackedSequences.get(number);
  $("credit-of").textContent = scene.sequence.creditOf;
  $("about").textContent = `${content.title} · ${scene.sequence.name} · ${scene.sequence.steps.toLocaleString("en")} steps · credit of ${scene.sequence.creditOf}`;
  $("figure").setAttribute("aria-valuemax", scene.sequence.steps);
  offerColumns();
  setFocus(null);
  chooseLayer(Number($("layer").value));
  setView(0, scene.sequence.steps);
  showPicture();
}

/** The choice of one column of a table, or all. */
function offerColumns() {
  const { lanes } = scene.sequence;
  const all = lanes.length > LANES ? `the first ${LANES} of ${lanes.length}` : "all";
  $("column").replaceChildren(made("option", all, { value: "" }), ...lanes.map((lane, i) => made("option", lane.name, { value: i })));
  $("choose-column").hidden = lanes.length < 2;
  chooseColumn("");
}

function chooseColumn(chosen) {
  scene.column = chosen === "" ? null : Number(chosen);
  const tall = scene.sequence.legend.kind === "lines" ? lanesHeight(scene) - WAVE : 0;
  $("figure").style.setProperty("--lanes", `${tall}px`);
  redraw();
}

/** The summary of the sequence and a layer: the verdict as a mark, then the sentence. */
function showSummary(number) {
  const { right } = scene.sequence.verdict;
  const mark = right === null ? [] : [made("b", right ? "✓ right" : "✗ wrong", { class: right ? "right" : "wrong" }), " · "];
  $("summary").replaceChildren(...mark, scene.sequence.summary[number]);
}

function chooseLayer(number) {
  scene.layer = scene.sequence.layers[number];
  showSummary(number);
  redraw();
  showDetails();
}

function setView(left, span) {
  const { steps } = scene.sequence;
  const within = Math.min(Math.max(span, Math.min(LEAST_SPAN, steps)), steps);
  scene.view = { left: Math.min(Math.max(left, 0), steps - within), span: within };
  redraw();
}

/** Zoom by a factor, keeping the place `x` (pixels) where it is. */
function zoom(factor, x = scene.width / 2) {
  const { left, span } = scene.view;
  const fixed = left + (x / scene.width) * span;
  const next = Math.min(Math.max(span * factor, LEAST_SPAN), scene.sequence.steps);
  setView(fixed - (x / scene.width) * next, next);
}

function zoomAtFocus(factor) {
  const x = state.focus === null ? scene.width / 2 : xOf(scene, state.focus);
  zoom(factor, x >= 0 && x <= scene.width ? x : scene.width / 2);
}

function setFocus(step, pinned = false) {
  if (step === state.focus && pinned === state.pinned) return;
  Object.assign(state, { focus: step, pinned });
  $("figure").classList.toggle("focused", step !== null);
  if (step !== null) {
    $("figure").setAttribute("aria-valuenow", step);
    $("figure").setAttribute("aria-valuetext", scene.sequence.called(step));
  }
  redraw(true);
  showDetails();
}

/** Choose a step by key: it comes into view, stays chosen and is announced. */
function goTo(step) {
  const to = Math.min(Math.max(step, 1), scene.sequence.steps);
  const { left, span } = scene.view;
  if (to - 1 < left || to > left + span) setView(to - span / 2, span);
  setFocus(to, true);
  $("said").textContent = inWords(to);
}

// Drawing

let arcsToo = false;

/** Draw at the next frame: everything, or only the marks of the chosen step. */
function redraw(marksAlone = false) {
  arcsToo ||= !marksAlone;
  if (state.waiting) return;
  state.waiting = true;
  requestAnimationFrame(drawNow);
}

function drawNow() {
  state.waiting = false;
  const scale = window.devicePixelRatio || 1;
  const box = $("figure").getBoundingClientRect();
  Object.assign(scene, { width: box.width, height: box.height });
  state.colours ??= coloursNow();
  const painterOf = (id) => new CanvasPainter($(id), scene.width, scene.height, scale);
  if (arcsToo) {
    arcsToo = false;
    scene.arcs = arcsInView(scene);
    state.drawn = drawArcs(painterOf("arcs"), scene, state.colours);
    drawStrip(painterOf("strip"), scene, state.colours);
    const small = $("overview").getBoundingClientRect();
    drawOverview(new CanvasPainter($("overview"), small.width, small.height, scale), scene, state.colours, small.width, small.height);
    showNote();
  }
  const painter = painterOf("marked");
  if (state.focus !== null) drawMarked(painter, scene, state.colours, state.focus);
  drawPicture();
  state.readyMs ??= performance.now();
}

function showNote() {
  const { recall, credit, bundled, all } = state.drawn;
  const count = (number, of, what) => {
    const drawn = `${number.toLocaleString("en")} arcs of ${what}`;
    return bundled && of > number ? `${drawn} for ${of.toLocaleString("en")} links` : drawn;
  };
  const shown = [];
  if (scene.show.recall) shown.push(count(recall, all.recall, "recalls"));
  if (scene.show.credit) shown.push(scene.layer.credit.total ? count(credit, all.credit, "credit") : "no memory received credit");
  $("note").textContent = `${shown.join(", ")}${bundled ? "; zoom in, or move Arcs to the right, to see more" : ""}`;
  Object.assign($("figure").dataset, { recall, credit, bundled });
}

/** Show the image that the steps form, if they are pixels. */
function showPicture() {
  $("picture").hidden = !content.legend.side;
}

function drawPicture() {
  const { side } = content.legend;
  if (!side) return;
  const size = 176;
  const cell = size / side;
  const { sequence, layer, show } = scene;
  const painter = new CanvasPainter($("image"), size, size, window.devicePixelRatio || 1);
  const order = content.legend.order ? unpacked(content.legend.order) : null;
  const spot = (step) => {
    const pixel = order ? order[step - 1] : (step - 1) % (side * side);
    return [(pixel % side) * cell, Math.floor(pixel / side) * cell];
  };
  for (let step = 1; step <= Math.min(sequence.steps, side * side); step++) painter.rect(...spot(step), cell + 0.5, cell + 0.5, shadeOf(sequence, step, step));
  const what = state.focus === null ? "the credited memories" : "the memories of this step";
  $("picture").querySelector("figcaption").textContent = `Tinted: the latest pixels before ${what}.`;
  const most = layer.credit.received.reduce((a, b) => Math.max(a, b), 0);
  const tint = (memory, colour, alpha) => {
    for (let step = Math.max(1, memory - sequence.interval + 1); step <= memory; step++) painter.rect(...spot(step), cell, cell, colour, alpha);
  };
  if (state.focus !== null) {
    for (const memory of layer.recall.memoriesOf(state.focus)) tint(memory.step, state.colours.recall, 0.15 + 0.6 * Math.min(memory.amount, 1));
    const [x, y] = spot(state.focus);
    painter.frame(x, y, cell, cell, state.colours.gold, 2);
  } else if (show.credit && most) {
    layer.credit.received.forEach((amount, step) => amount && tint(step, state.colours.credit, 0.6 * (amount / most)));
  }
}

// Keys and pointers

function onKey(event) {
  const { view, sequence, layer } = scene;
  const step = state.focus ?? Math.round(view.left + view.span / 2);
  const strongest = (ends) => goTo(ends.length ? ends[0].step : step);
  const actions = {
    ArrowLeft: () => goTo(step - 1),
    ArrowRight: () => goTo(step + 1),
    ArrowUp: () => strongest(layer.recall.memoriesOf(step)),
    ArrowDown: () => strongest(layer.recall.usersOf(step)),
    Home: () => goTo(1),
    End: () => goTo(sequence.steps),
    PageUp: () => setView(view.left - view.span, view.span),
    PageDown: () => setView(view.left + view.span, view.span),
    "+": () => zoomAtFocus(0.5),
    "=": () => zoomAtFocus(0.5),
    "-": () => zoomAtFocus(2),
    0: () => setView(0, sequence.steps),
    Escape: () => setFocus(null),
  };
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
}

/** The step under the pointer; if several share a pixel, the one with the most credit or recall weight. */
function stepUnder(x) {
  const middle = stepAt(scene, x);
  const reach = Math.floor((1.5 * scene.view.span) / scene.width);
  if (reach < 1) return middle;
  const { recall, credit } = scene.layer;
  const worth = (step) => credit.received[step] / (credit.total || 1) + (1e-3 * recall.received[step]) / (recall.total || 1);
  let best = middle;
  for (let step = Math.max(1, middle - reach); step <= Math.min(scene.sequence.steps, middle + reach); step++) {
    if (worth(step) > worth(best)) best = step;
  }
  return best;
}

const pointers = new Map(); // last position of each pressed pointer, by id
let moved = 0; // pixels since the first press

function placeOf(event) { return event.clientX - $("figure").getBoundingClientRect().left; }

function onDown(event) {
  if (pointers.size === 0) moved = 0;
  pointers.set(event.pointerId, placeOf(event));
  $("figure").setPointerCapture(event.pointerId);
}

function onMove(event) {
  const x = placeOf(event);
  if (!pointers.has(event.pointerId)) {
    if (!state.pinned) setFocus(stepUnder(x));
    return;
  }
  const before = pointers.get(event.pointerId);
  moved += Math.abs(x - before);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    zoom(Math.abs(before - other) / Math.max(Math.abs(x - other), 1), other);
  } else if (moved > 4) {
    $("figure").classList.add("held");
    setView(scene.view.left - ((x - before) / scene.width) * scene.view.span, scene.view.span);
  }
  pointers.set(event.pointerId, x);
}

function onUp(event) {
  if (!pointers.delete(event.pointerId)) return;
  $("figure").classList.remove("held");
  if (event.type === "pointerup" && moved <= 4) {
    const step = stepUnder(placeOf(event));
    if (state.pinned && step === state.focus) setFocus(null);
    else setFocus(step, true);
  }
}

function onWheel(event) {
  const { view, sequence } = scene;
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    setView(view.left + (event.deltaX / scene.width) * view.span, view.span);
  } else if (event.deltaY < 0 || view.span < sequence.steps) {
    event.preventDefault(); // when fully zoomed out, the wheel scrolls the page
    zoom(1.0018 ** event.deltaY, placeOf(event));
  }
}

function onOverview(event) {
  if (event.buttons === 0) return;
  const box = $("overview").getBoundingClientRect();
  $("overview").setPointerCapture(event.pointerId);
  setView(((event.clientX - box.left) / box.width) * scene.sequence.steps - scene.view.span / 2, scene.view.span);
}

// Saving

function saved(kind) {
  const name = `${content.file}-${scene.sequence.name.replaceAll(/[^\w.]+/g, "-")}.${kind}`;
  const step = state.pinned ? state.focus : null;
  if (kind === "svg") {
    const painter = new SvgPainter(Math.round(scene.width), Math.round(scene.height));
    drawAll(painter, scene, coloursOfPaper(), step);
    return handOver(new Blob([painter.written()], { type: "image/svg+xml" }), name);
  }
  const canvas = document.createElement("canvas");
  drawAll(new CanvasPainter(canvas, scene.width, scene.height, 3), scene, coloursOfPaper(), step);
  return canvas.toBlob((blob) => handOver(blob, name), "image/png");
}

function handOver(blob, name) {
  const link = made("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Beginning

function listen() {
  const on = (id, type, act, options) => $(id).addEventListener(type, act, options);
  on("figure", "keydown", onKey);
  on("figure", "pointerdown", onDown);
  on("figure", "pointermove", onMove);
  on("figure", "pointerup", onUp);
  on("figure", "pointercancel", onUp);
  on("figure", "pointerleave", () => state.pinned || setFocus(null));
  on("figure", "wheel", onWheel, { passive: false });
  on("overview", "pointerdown", onOverview);
  on("overview", "pointermove", onOverview);
  on("sequence", "change", () => chooseSequence(Number($("sequence").value)));
  on("layer", "change", () => chooseLayer(Number($("layer").value)));
  on("closer", "click", () => zoomAtFocus(0.5));
  on("farther", "click", () => zoomAtFocus(2));
  on("whole", "click", () => setView(0, scene.sequence.steps));
  on("save-png", "click", () => saved("png"));
  on("save-svg", "click", () => saved("svg"));
  on("most", "input", showMost);
  on("column", "change", () => chooseColumn($("column").value));
  for (const kind of ["recall", "credit"]) {
    on(`show-${kind}`, "change", (event) => { scene.show[kind] = event.target.checked; redraw(); });
  }
  new ResizeObserver(() => redraw()).observe($("figure"));
  followTheme(recolour);
}

function showMost() {
  scene.most = MOST[Number($("most").value)];
  $("most-value").textContent = scene.most.toLocaleString("en");
  redraw();
}

function recolour() {
  state.colours = null;
  redraw();
}

function begin() {
  content.sequences.forEach((sequence, i) => $("sequence").append(made("option", sequence.name, { value: i })));
  const layers = content.sequences[0].layers.length;
  for (let layer = 0; layer < layers; layer++) $("layer").append(made("option", String(layer + 1), { value: layer }));
  $("layer").value = content.layer;
  $("choose-sequence").hidden = content.sequences.length < 2;
  $("choose-layer").hidden = layers < 2;
  listen();
  chooseSequence(0);
  showMost();
}

begin();

/** The state of the page, for tests. */
window.explain = Object.freeze({
  get drawn() { return state.drawn; },
  get focus() { return state.focus; },
  get view() { return { ...scene.view }; },
  get readyMs() { return state.readyMs; },
});
