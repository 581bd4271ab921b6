// What is drawn where: the part of the sequence in view, with its arcs above and below. Knows no events.
//
// A scene is { sequence, layer, view: { left, span }, width, height, least, show: { recall, credit }, arcs }. The view is
// in steps: step s covers s - 1 to s. Its arcs are what `arcsInView` finds; they are found anew when the rest changes.

const SINGLE = 3000; // links in view, up to which each is drawn by itself
const BUNDLES = 1500; // drawn at most, where they are bundled
const BIN = 2; // pixels that a bundle's end covers
const COARSE = 16; // how many times as many steps the ends out of view cover
const LETTER = 5.75; // pixels a step needs to show its name
const FEW = 32; // different tokens
const NAME = 24; // pixels for the name of a layer
const LINES = ["ink", "recalled-by", "purple", "gold", "quiet"];

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

/** Heights: y of the parts, from the top. */
function layoutOf(scene) {
  const { legend, answers } = scene.sequence;
  const input = { tokens: 24, pixels: 30, wave: 76, lines: 76 }[legend.kind];
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

/** What there is to draw of both kinds, and the pixels that the longest arc spans. */
function arcsInView(scene) {
  const found = { recall: arcsOf(scene, "recall"), credit: arcsOf(scene, "credit"), longest: 40 };
  for (const kind of ["recall", "credit"]) {
    if (!scene.show[kind]) continue;
    for (const [from, to] of found[kind].arcs) found.longest = Math.max(found.longest, xOf(scene, from) - xOf(scene, to));
  }
  found.longest = Math.min(found.longest, scene.width);
  return found;
}

/** The arcs of a kind that are in view, the weakest first, as { arcs: [from, to, amount], largest, bundled }. */
function arcsOf(scene, kind) {
  const links = scene.layer[kind];
  const [first, last] = inView(scene);
  const begun = links.byFrom.between(first, last);
  const ended = links.byTo.between(first, last).filter((i) => links.from[i] > last);
  const bundled = begun.length + ended.length > SINGLE;
  const found = bundled ? bundles(scene, links, [begun, ended], first, last) : singles(links, [begun, ended]);
  const largest = found.amounts.reduce((most, amount) => Math.max(most, amount), 0);
  const enough = Math.max(scene.least * largest, Number.MIN_VALUE, bundled ? nthLargest(found.amounts, BUNDLES) : 0);
  const arcs = [];
  found.amounts.forEach((amount, i) => { if (amount >= enough) arcs.push([...found.ends(i), amount]); });
  return { arcs: arcs.sort((a, b) => a[2] - b[2]), largest, bundled };
}

/** The n-th largest number; 0 if there are fewer. */
function nthLargest(numbers, n) { return numbers.length < n ? 0 : numbers.slice().sort()[numbers.length - n]; }

/** Links by themselves, as { amounts, ends(i) }. */
function singles(links, parts) {
  const numbers = parts.flatMap((part) => Array.from(part));
  return { amounts: Float32Array.from(numbers, (i) => links.amount[i]), ends: (i) => [links.from[numbers[i]], links.to[numbers[i]]] };
}

/** Sums over bins of a few pixels each way, as `singles`; what lies out of view is in coarser bins. */
function bundles(scene, links, parts, first, last) {
  const size = Math.max(1, Math.ceil((BIN * scene.view.span) / scene.width));
  const binOf = (step) => Math.floor((step - 1) / size); // aligned with the sequence, so that panning changes none
  const [low, high] = [binOf(first), binOf(last)];
  const left = Math.ceil(low / COARSE);
  const inner = high - low + 1;
  const count = left + inner + Math.ceil((binOf(links.steps) - high) / COARSE);
  const place = new Int32Array(links.steps + 1); // of each step, looked up once for each of its links
  for (let step = 1; step <= links.steps; step++) {
    const bin = binOf(step);
    if (bin < low) place[step] = Math.floor(bin / COARSE);
    else place[step] = bin <= high ? left + bin - low : left + inner + Math.floor((bin - high - 1) / COARSE);
  }
  const middle = (at) => {
    if (at < left) return Math.min((at + 0.5) * COARSE, low - 0.5) * size + 0.5;
    if (at < left + inner) return (low + at - left + 0.5) * size + 0.5;
    return (high + 1 + (at - left - inner + 0.5) * COARSE) * size + 0.5;
  };
  const sums = new Float32Array(count * count);
  for (const part of parts) for (const i of part) sums[place[links.from[i]] * count + place[links.to[i]]] += links.amount[i];
  for (let at = 0; at < count; at++) sums[at * count + at] = 0; // within a bin there is no arc to see
  const filled = [];
  for (let at = 0; at < sums.length; at++) if (sums[at] > 0) filled.push(at);
  const ends = (i) => [middle(Math.floor(filled[i] / count)), middle(filled[i] % count)];
  return { amounts: Float32Array.from(filled, (at) => sums[at]), ends };
}

/** How high an arc rises: short ones stay low, and the longest fill the room up to the name of the layer. */
function rise(scene, dx, room) { return Math.max(3, (room - NAME) * Math.min(1, Math.sqrt(Math.abs(dx) / scene.arcs.longest))); }

function drawArcs(painter, scene, colours) {
  const at = layoutOf(scene);
  const drawn = { recall: 0, credit: 0, bundled: false };
  for (const [kind, y, room] of [["recall", at.input, at.above], ["credit", at.credit, -at.below]]) {
    if (!scene.show[kind]) continue;
    const { arcs, largest, bundled } = scene.arcs[kind];
    // Many arcs side by side would run into one another: none is wider than a step, and the more, the paler.
    const crowd = Math.min(1, Math.max(0.35, Math.sqrt(60 / (arcs.length + 1))));
    const wide = Math.max(0.8, (0.5 * scene.width) / scene.view.span);
    const widest = bundled ? 3 : Math.min(3.4, wide, Math.max(0.9, 24 / Math.sqrt(arcs.length + 1)));
    for (const [from, to, amount] of arcs) {
      const share = amount / largest;
      const [x0, x1] = [xOf(scene, to), xOf(scene, from)];
      const height = Math.sign(room) * rise(scene, x1 - x0, Math.abs(room));
      painter.arc(x0, x1, y, height, colours[kind], 0.5 + widest * share, (0.12 + 0.78 * share) * crowd);
      if (!bundled) painter.dot(x0, y - Math.sign(room) * 1.5, 1 + 2 * share, colours[kind], 0.3 + 0.6 * share);
    }
    drawn[kind] = arcs.length;
    drawn.bundled ||= bundled;
  }
  return drawn;
}

function drawStrip(painter, scene, colours) {
  const at = layoutOf(scene);
  const { sequence } = scene;
  painter.rect(0, at.input, scene.width, at.inputHeight + at.outputHeight, colours.surface);
  painter.within(0, 0, scene.width, scene.height, () => {
    if (sequence.legend.kind === "tokens") drawTokens(painter, scene, colours, at);
    if (sequence.legend.kind === "pixels") drawPixels(painter, scene, at);
    if (sequence.legend.kind === "wave" || sequence.legend.kind === "lines") drawLines(painter, scene, colours, at);
    if (at.outputHeight) drawAnswers(painter, scene, colours, at);
    if (scene.show.credit) drawProfile(painter, scene, colours, at);
    drawAxis(painter, scene, colours, at);
  });
  drawNames(painter, scene, colours, at);
}

function drawNames(painter, scene, colours, at) {
  const names = [];
  if (scene.show.recall) names.push(["recalled, by weight", 12, colours.recall]);
  if (scene.show.credit) names.push(["credit: gradient sent back", at.profile - 20, colours.credit], ["received in all", at.profile + 2, colours.credit]);
  for (const [words, y, colour] of names) painter.text(words, 2, y, 12.5, colour, { align: "left", bold: true });
  const { legend, width } = scene.sequence;
  if (legend.kind !== "lines" || width < 2) return;
  let x = scene.width - 2;
  for (let channel = Math.min(width, legend.channels.length) - 1; channel >= 0; channel--) {
    painter.text(legend.channels[channel], x, 12, 12, colours[LINES[channel % LINES.length]], { align: "right" });
    x -= legend.channels[channel].length * 7 + 10;
  }
}

/** Steps grouped by pixel, where they are narrower: calls `paint(first step, last step, x, width)`. */
function eachColumn(scene, paint) {
  const [first, last] = inView(scene);
  const wide = scene.width / scene.view.span;
  const together = Math.max(1, Math.floor(1 / wide));
  for (let step = first; step <= last; step += together) {
    const end = Math.min(step + together - 1, last);
    paint(step, end, xOf(scene, step) - wide / 2, wide * (end - step + 1));
  }
}

function drawTokens(painter, scene, colours, at) {
  const { sequence, width, view } = scene;
  const y = at.input + at.inputHeight / 2;
  const row = { names: sequence.legend.names, ids: sequence.tokens, colour: colours.ink };
  if (namesFit(row, width / view.span)) return drawNamesOf(painter, scene, row, y, () => ({}));
  shadeNames(painter, scene, row, at.input + 3, at.inputHeight - 6, sequence.quiet);
}

/** Shades in the place of names that do not fit; the quiet ones are left out. */
function shadeNames(painter, scene, row, y, height, quiet) {
  // Of few different tokens each has a shade of its own; of many, what matters is where there are any.
  const few = row.names.length <= FEW;
  const [base, steep] = few ? [0.35, 0.55 / row.names.length] : [0.4, 0];
  eachColumn(scene, (first, last, x, wide) => {
    let alpha = 0;
    for (let step = first; step <= last; step++) {
      const id = row.ids[step - 1];
      if (!quiet.has(id)) alpha += base + steep * id;
    }
    if (alpha) painter.rect(x, y, wide + 0.2, height, row.colour, alpha / (last - first + 1));
  });
}

/** Whether steps are wide enough for the names that occur. */
function namesFit(row, wide) {
  row.longest = 1;
  for (const id of new Set(row.ids)) row.longest = Math.max(row.longest, row.names[id].length);
  return wide >= LETTER * Math.min(row.longest, 3) * (row.longest > 1 ? 0.8 : 1);
}

function drawNamesOf(painter, scene, row, y, lookOf) {
  const [first, last] = inView(scene);
  const wide = scene.width / scene.view.span;
  const size = Math.min(15, Math.max(9.5, (wide * 1.35) / (row.longest > 1 ? row.longest * 0.8 : 1)));
  for (let step = first; step <= last; step++) {
    const id = row.ids[step - 1];
    const quiet = scene.sequence.quiet.has(id) && row.names === scene.sequence.legend.names;
    const look = lookOf(step);
    if (look.skip) continue;
    painter.text(row.names[id], xOf(scene, step), y, size, look.colour ?? row.colour, { mono: true, bold: look.bold, alpha: quiet ? 0.22 : look.alpha ?? 1 });
  }
}

/** What the network says at each step; what is known to be wrong is underlined. */
function drawAnswers(painter, scene, colours, at) {
  const { sequence, width, view } = scene;
  const shared = sequence.legend.classes.join("\n") === sequence.legend.names.join("\n");
  const row = { names: shared ? sequence.legend.names : sequence.legend.classes, ids: sequence.answers, colour: colours.ink };
  const y = at.output + at.outputHeight / 2;
  painter.line([0, at.output, width, at.output], colours.line, 1);
  if (namesFit(row, width / view.span)) {
    drawNamesOf(painter, scene, row, y, (step) => ({
      colour: sequence.wrong(step) ? colours.credit : colours.ink,
      bold: sequence.asked(step),
      alpha: sequence.asked(step) ? 1 : 0.4,
    }));
  } else if (shared && row.names.length <= FEW) {
    shadeNames(painter, scene, row, at.output + 3, at.outputHeight - 6, sequence.quiet);
  }
  eachColumn(scene, (first, last, x, wide) => {
    let wrong = 0;
    for (let step = first; step <= last; step++) wrong += sequence.wrong(step);
    if (wrong) painter.rect(x, at.output + at.outputHeight - 3, Math.max(wide, 1), 3, colours.credit, 0.3 + (0.7 * wrong) / (last - first + 1));
  });
}

function drawPixels(painter, scene, at) {
  const { sequence } = scene;
  eachColumn(scene, (first, last, x, wide) => {
    painter.rect(x, at.input + 3, wide + 0.4, at.inputHeight - 6, shadeOf(sequence, first, last));
  });
}

/** The mean colour of some pixels. */
function shadeOf(sequence, first, last) {
  const mean = [0, 1, 2].map((channel) => {
    let sum = 0;
    for (let step = first; step <= last; step++) sum += sequence.values[(step - 1) * sequence.width + Math.min(channel, sequence.width - 1)];
    return Math.round((255 * sum) / (last - first + 1));
  });
  return `rgb(${mean.join(",")})`;
}

function drawLines(painter, scene, colours, at) {
  const { sequence } = scene;
  const [low, high] = sequence.range;
  const yOf = (value) => at.input + 6 + (at.inputHeight - 12) * (1 - (value - low) / (high - low));
  const wave = sequence.legend.kind === "wave";
  if (low < 0 && high > 0) painter.line([0, yOf(0), scene.width, yOf(0)], colours.line, 1);
  for (let channel = 0; channel < (wave ? 1 : sequence.width); channel++) {
    const points = wave ? wavePoints(scene, yOf) : channelPoints(scene, channel, yOf);
    painter.line(points, colours[LINES[channel % LINES.length]], 1.2, channel ? 0.9 : 1);
  }
}

/** A line through one value of each step; where steps are narrower than pixels, through the ends of their range. */
function channelPoints(scene, channel, yOf) {
  const { values, width } = scene.sequence;
  return throughEnds(scene, yOf, (step) => [values[(step - 1) * width + channel]]);
}

/** A line through all values of all steps, one behind the other. */
function wavePoints(scene, yOf) {
  const { values, width } = scene.sequence;
  return throughEnds(scene, yOf, (step) => values.subarray((step - 1) * width, step * width));
}

function throughEnds(scene, yOf, valuesOf) {
  const points = [];
  eachColumn(scene, (first, last, x, wide) => {
    const here = first === last ? valuesOf(first) : null;
    if (here !== null && here.length < 2 * wide) {
      here.forEach((value, i) => points.push(x + ((i + 0.5) / here.length) * wide, yOf(value)));
      return;
    }
    let [low, high] = [Infinity, -Infinity];
    for (let step = first; step <= last; step++) {
      for (const value of valuesOf(step)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    points.push(x + wide / 2, yOf(low), x + wide / 2, yOf(high));
  });
  return points;
}

/** Bars of what each memory received in all. */
function drawProfile(painter, scene, colours, at) {
  const { received } = scene.layer.credit;
  const bars = [];
  let most = 0;
  eachColumn(scene, (first, last, x, wide) => {
    let sum = 0;
    for (let step = first; step <= last; step++) sum += received[step];
    if (!sum) return;
    most = Math.max(most, sum);
    bars.push([x + wide / 2, Math.max(1.5, Math.min(wide * 0.8, 12)), sum]);
  });
  const bottom = at.axis - 1;
  for (const [x, wide, sum] of bars) {
    const height = (sum / most) * (bottom - at.profile - 8);
    painter.rect(x - wide / 2, bottom - height, wide, height, colours.credit);
  }
}

function drawAxis(painter, scene, colours, at) {
  const [first, last] = inView(scene);
  const gap = niceGap((scene.view.span / scene.width) * 70);
  painter.line([0, at.axis, scene.width, at.axis], colours.line, 1);
  for (let step = first; step <= last; step++) {
    if (step % gap && !(step === 1 && gap > 1)) {
      step += gap - (step % gap) - 1;
      continue;
    }
    const x = xOf(scene, step);
    const label = step.toLocaleString("en");
    const half = label.length * 3.6;
    painter.line([x, at.axis, x, at.axis + 4], colours.quiet, 1);
    if (step !== 1 || x + half + 8 < xOf(scene, gap)) {
      painter.text(label, Math.min(Math.max(x, half), scene.width - half), at.axis + 13, 12, colours.quiet);
    }
  }
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function niceGap(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return power * [1, 2, 5, 10].find((times) => times * power >= least);
}

/** One step, the memories it recalled, and the steps that recalled it. */
function drawMarked(painter, scene, colours, step) {
  const at = layoutOf(scene);
  const x = xOf(scene, step);
  const wide = Math.max(scene.width / scene.view.span, 2);
  painter.line([x, 0, x, at.axis + 5], colours.focus, 1, 0.5);
  painter.frame(x - wide / 2, at.input + 1, wide, at.inputHeight + at.outputHeight - 2, colours.focus, 1.5);
  for (const [kind, y, room] of [["recall", at.input, at.above], ["credit", at.credit, -at.below]]) {
    if (!scene.show[kind]) continue;
    const links = scene.layer[kind];
    const bound = { users: links.usersOf(step).slice(0, 400), memories: links.memoriesOf(step) };
    for (const [which, ends] of Object.entries(bound)) {
      const largest = ends.length ? ends[0].amount : 1;
      const colour = which === "users" ? colours["recalled-by"] : colours[kind];
      for (const end of ends.slice().reverse()) drawMarkedArc(painter, scene, x, xOf(scene, end.step), y, room, colour, end.amount / largest);
    }
    if (kind === "recall") shadeSegments(painter, scene, colours, at, bound.memories);
  }
}

function drawMarkedArc(painter, scene, x, other, y, room, colour, share) {
  const height = Math.sign(room) * rise(scene, other - x, Math.abs(room));
  painter.arc(Math.min(x, other), Math.max(x, other), y, height, colour, 0.8 + 3.4 * share, 0.35 + 0.65 * share);
  painter.dot(other, y, 2.5 + 2 * share, colour);
}

/** Over the strip: the steps that are newest in each recalled memory. */
function shadeSegments(painter, scene, colours, at, memories) {
  for (const { step, amount } of memories) {
    const first = Math.max(step - scene.sequence.interval + 1, 1);
    const wide = scene.width / scene.view.span;
    const x = xOf(scene, first) - wide / 2;
    painter.rect(x, at.input, wide * (step - first + 1), at.inputHeight, colours.recall, 0.08 + 0.3 * amount);
  }
}

/** All of a scene, as it is saved. */
function drawAll(painter, scene, colours, step) {
  painter.rect(0, 0, scene.width, scene.height, colours.paper);
  painter.within(0, 0, scene.width, scene.height, () => step === null ? drawArcs(painter, scene, colours) : null);
  drawStrip(painter, scene, colours);
  if (step !== null) painter.within(0, 0, scene.width, scene.height, () => drawMarked(painter, scene, colours, step));
}

/** The whole sequence in little: where was recalled and paid, and what part is in view. */
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
