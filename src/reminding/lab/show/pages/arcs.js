// The arcs of a scene, in bundles if there are many, and the arcs of one step.

const MOST = [12, 24, 40, 100, 300, 700, 1500]; // the choice of the greatest number of arcs of a kind
const BIN = 2; // pixels at the memory's end of a bundle
const COARSE = 16; // how many times wider the ends out of view are
const NAME = 24; // pixels for the name of a layer

/** The arcs of both kinds, and the width of the longest in pixels. */
function arcsInView(scene) {
  const found = { recall: arcsOf(scene, "recall"), credit: arcsOf(scene, "credit"), longest: 40 };
  for (const kind of ["recall", "credit"]) {
    if (!scene.show[kind]) continue;
    for (const [from, to] of found[kind].arcs) found.longest = Math.max(found.longest, xOf(scene, from) - xOf(scene, to));
  }
  found.longest = Math.min(found.longest, scene.width);
  return found;
}

/** The strongest arcs of a kind in view, the weakest first, as { arcs: [from, to, amount, sign], largest, bundled, all }. */
function arcsOf(scene, kind) {
  const links = scene.layer[kind];
  const [first, last] = inView(scene);
  const begun = links.byFrom.between(first, last);
  const ended = links.byTo.between(first, last).filter((i) => links.from[i] > last);
  const bundled = begun.length + ended.length > scene.most;
  const found = bundled ? bundles(scene, links, [begun, ended], first, last) : singles(links, [begun, ended]);
  const largest = found.amounts.reduce((most, amount) => Math.max(most, amount), 0);
  const strongest = nthLargest(found.amounts, scene.most);
  const chosen = Array.from(found.amounts.keys()).filter((i) => found.amounts[i] > 0 && found.amounts[i] >= strongest);
  chosen.sort((a, b) => found.amounts[a] - found.amounts[b]);
  const arcs = chosen.slice(-scene.most).map((i) => [...found.ends(i), found.amounts[i], found.sign(i)]);
  return { arcs, largest, bundled, all: begun.length + ended.length };
}

/** The n-th largest number; 0 if there are fewer. */
function nthLargest(numbers, n) { return numbers.length < n ? 0 : numbers.slice().sort()[numbers.length - n]; }

/** Links by themselves, as { amounts, ends(i), sign(i) }. */
function singles(links, parts) {
  const numbers = parts.flatMap((part) => Array.from(part));
  const amounts = Float32Array.from(numbers, (i) => links.amount[i]);
  return { amounts, ends: (i) => [links.from[numbers[i]], links.to[numbers[i]]], sign: (i) => Math.sign(links.signed[numbers[i]]) };
}

/**
 * Sums over neighbouring steps that recalled the same memory, as `singles` returns them. The fewer arcs are wanted, the
 * more neighbours are taken together; an end lies at the mean of its links.
 */
function bundles(scene, links, parts, first, last) {
  const { span } = scene.view;
  const readers = Math.min(scene.width / BIN, Math.round(2 * scene.most ** 0.7));
  const from = bins(links.steps, Math.max(1, Math.ceil(span / readers)), first, last);
  const to = bins(links.steps, Math.max(1, Math.ceil((BIN * span) / scene.width)), first, last);
  const [sums, froms, tos, signed] = Array.from({ length: 4 }, () => new Float64Array(from.count * to.count));
  for (const part of parts) {
    for (const i of part) {
      const at = from.place[links.from[i]] * to.count + to.place[links.to[i]];
      sums[at] += links.amount[i];
      froms[at] += links.amount[i] * links.from[i];
      tos[at] += links.amount[i] * links.to[i];
      signed[at] += links.signed[i];
    }
  }
  const filled = [];
  for (let at = 0; at < sums.length; at++) if (sums[at] > 0) filled.push(at);
  const ends = (i) => [froms[filled[i]] / sums[filled[i]], tos[filled[i]] / sums[filled[i]]];
  return { amounts: Float32Array.from(filled, (at) => sums[at]), ends, sign: (i) => Math.sign(signed[filled[i]]) };
}

/** The bin of each step, and the number of bins; those out of view are coarser. */
function bins(steps, size, first, last) {
  const binOf = (step) => Math.floor((step - 1) / size); // aligned with the sequence, so that panning does not change the bins
  const [low, high] = [binOf(first), binOf(last)];
  const left = Math.ceil(low / COARSE);
  const inner = high - low + 1;
  const place = new Int32Array(steps + 1);
  for (let step = 1; step <= steps; step++) {
    const bin = binOf(step);
    if (bin < low) place[step] = Math.floor(bin / COARSE);
    else place[step] = bin <= high ? left + bin - low : left + inner + Math.floor((bin - high - 1) / COARSE);
  }
  return { count: left + inner + Math.ceil((binOf(steps) - high) / COARSE), place };
}

/** The height of an arc: it grows with the width, and the longest arcs reach up to the name of the layer. */
function rise(scene, dx, room) { return Math.max(3, (room - NAME) * Math.min(1, Math.sqrt(Math.abs(dx) / scene.arcs.longest))); }

function drawArcs(painter, scene, colours) {
  const at = layoutOf(scene);
  const drawn = { recall: 0, credit: 0, bundled: false, all: { recall: scene.arcs.recall.all, credit: scene.arcs.credit.all } };
  for (const [kind, y, room] of [["recall", at.input, at.above], ["credit", at.credit, -at.below]]) {
    if (!scene.show[kind]) continue;
    const { arcs, largest, bundled } = scene.arcs[kind];
    // So that many arcs can be told apart, none is wider than a step, and more arcs are paler.
    const crowd = Math.min(1, Math.max(0.35, Math.sqrt(60 / (arcs.length + 1))));
    const wide = Math.max(0.8, (0.5 * scene.width) / scene.view.span);
    const widest = bundled ? 3 : Math.min(3.4, wide, Math.max(0.9, 24 / Math.sqrt(arcs.length + 1)));
    for (const [from, to, amount, sign] of arcs) {
      const share = amount / largest;
      const [x0, x1] = [xOf(scene, to), xOf(scene, from)];
      const height = Math.sign(room) * rise(scene, x1 - x0, Math.abs(room));
      painter.arc(x0, x1, y, height, colours[kind], 0.5 + widest * share, (0.12 + 0.78 * share) * crowd, dashesOf(sign));
      painter.dot(x0, y - Math.sign(room) * 1.5, 1 + 2 * share, colours[kind], 0.3 + 0.6 * share);
    }
    drawn[kind] = arcs.length;
    drawn.bundled ||= bundled;
  }
  return drawn;
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
      for (const end of ends.slice().reverse()) drawMarkedArc(painter, scene, x, xOf(scene, end.step), y, room, colour, end.amount / largest, dashesOf(end.signed));
    }
    if (kind === "recall") shadeSegments(painter, scene, colours, at, bound.memories);
  }
}

/** The dashes of an arc, which has some if its weight is negative. */
function dashesOf(weight) { return weight < 0 ? [6, 3] : []; }

function drawMarkedArc(painter, scene, x, other, y, room, colour, share, dashes) {
  const height = Math.sign(room) * rise(scene, other - x, Math.abs(room));
  painter.arc(Math.min(x, other), Math.max(x, other), y, height, colour, 0.8 + 3.4 * share, 0.35 + 0.65 * share, dashes);
  painter.dot(other, y, 2.5 + 2 * share, colour);
}
