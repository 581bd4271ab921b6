// The layout of the drawing: the part of the sequence in view, with its arcs above and below. It handles no events.
//
// A scene is { sequence, layer, view: { left, span }, width, height, most, column, show: { recall, credit }, arcs }. The view is
// in steps: step s covers s - 1 to s. `arcsInView` computes its arcs, whenever the rest changes.

function xOf(scene, step) { return ((step - 0.5 - scene.view.left) / scene.view.span) * scene.width; }

function stepAt(scene, x) {
  const step = Math.floor(scene.view.left + (x / scene.width) * scene.view.span) + 1;
  return Math.min(Math.max(step, 1), scene.sequence.steps);
}

/** The first and last step in view. */
function inView(scene) {
  const { left, span } = scene.view;
  return [Math.floor(left) + 1, Math.min(Math.ceil(left + span), scene.sequence.steps)];
}

const WAVE = 76; // height of a single line
const LANES = 8; // greatest number of lanes

/** The lanes that are drawn: all, as far as there is room, or the chosen one. */
function lanesOf(scene) {
  const { lanes } = scene.sequence;
  return scene.column === null ? lanes.slice(0, LANES) : [lanes[scene.column]];
}

function lanesHeight(scene) {
  const count = lanesOf(scene).length;
  return count < 2 ? WAVE : count * (count === 2 ? 52 : count < 5 ? 44 : 36);
}

/** Heights: y of the parts, from the top. */
function layoutOf(scene) {
  const { legend, answers } = scene.sequence;
  const input = { tokens: 24, pixels: 30, wave: WAVE, lines: lanesHeight(scene) }[legend.kind];
  const output = answers === null || legend.kind === "wave" && legend.names.length ? 0 : 22;
  const profile = scene.show.credit ? Math.min(64, scene.height * 0.12) : 0;
  const axis = 22;
  const free = scene.height - input - output - profile - axis - 12;
  const shares = { recall: scene.show.recall ? 0.56 : 0, credit: scene.show.credit ? 0.44 : 0 };
  const all = shares.recall + shares.credit || 1;
  const above = (free * shares.recall) / all;
  const below = (free * shares.credit) / all;
  const outputs = above + input;
  const credit = outputs + output;
  return { above, below, input: above, inputHeight: input, output: outputs, outputHeight: output, credit,
    profile: credit + below + 12, profileHeight: profile, axis: scene.height - axis };
}

/** All of a scene, as it is saved. */
function drawAll(painter, scene, colours, step) {
  painter.rect(0, 0, scene.width, scene.height, colours.paper);
  painter.within(0, 0, scene.width, scene.height, () => step === null ? drawArcs(painter, scene, colours) : null);
  drawStrip(painter, scene, colours);
  if (step !== null) painter.within(0, 0, scene.width, scene.height, () => drawMarked(painter, scene, colours, step));
}

/** The whole sequence in miniature: the recalls and the credit of each memory, and the part in view. */
function drawOverview(painter, scene, colours, width, height) {
  const { steps } = scene.sequence;
  const columns = Math.floor(width);
  painter.rect(0, 0, width, height, colours.surface);
  for (const [kind, base, up] of [["recall", height / 2, 1], ["credit", height / 2, -1]]) {
    const sums = new Float64Array(columns);
    const { received } = scene.layer[kind];
    for (let step = 1; step <= steps; step++) sums[Math.min(columns - 1, Math.floor(((step - 0.5) / steps) * columns))] += received[step];
    const most = sums.reduce((a, b) => Math.max(a, b), 0) || 1;
    sums.forEach((sum, x) => {
      const tall = (sum / most) * (height / 2 - 3);
      if (tall) painter.rect(x, up > 0 ? base - tall : base, Math.max(1, Math.min(3, columns / steps)), tall, colours[kind]);
    });
  }
  const [x, wide] = [(scene.view.left / steps) * width, (scene.view.span / steps) * width];
  painter.rect(0, 0, x, height, colours.paper, 0.65);
  painter.rect(x + wide, 0, width - x - wide, height, colours.paper, 0.65);
  painter.frame(x + 1, 1, Math.max(wide - 2, 2), height - 2, colours.quiet, 1.5);
}
