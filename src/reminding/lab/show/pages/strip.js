// The strip of a scene: the input, the predictions, the credit of each memory, and the axis of steps.

const LETTER = 5.8; // pixels of a letter of the smallest names of steps
const BETWEEN = 3; // pixels between two names of more than one letter
const FEW = 32; // up to this number, each token has its own shade

function drawStrip(painter, scene, colours) {
  const at = layoutOf(scene);
  const { sequence } = scene;
  painter.rect(0, at.input, scene.width, at.inputHeight + at.outputHeight, colours.surface);
  painter.within(0, 0, scene.width, scene.height, () => {
    if (sequence.padding) drawPadding(painter, scene, colours, at);
    if (sequence.legend.kind === "tokens") drawTokens(painter, scene, colours, at);
    if (sequence.legend.kind === "pixels") drawPixels(painter, scene, at);
    if (sequence.reachedInAll && scene.show.credit) drawReached(painter, scene, colours, at);
    if (sequence.legend.kind === "wave") drawWave(painter, scene, colours, at);
    if (sequence.legend.kind === "lines") drawLanes(painter, scene, colours, at);
    if (at.outputHeight) drawAnswers(painter, scene, colours, at);
    if (scene.show.credit) drawProfile(painter, scene, colours, at);
    drawAxis(painter, scene, colours, at);
  });
  drawNames(painter, scene, colours, at);
}

function drawNames(painter, scene, colours, at) {
  const names = [];
  if (scene.show.recall) names.push([`recalled, by weight${scene.layer.recall.anyNegative ? " (dashed: negative)" : ""}`, 12, colours.recall]);
  if (scene.show.credit) names.push(["credit: gradient received", at.profile - 20, colours.credit], ["total per memory", at.profile + 2, colours.credit]);
  for (const [words, y, colour] of names) painter.text(words, 2, y, 12.5, colour, { align: "left", bold: true });
  eachLane(scene, at, (lane, top, height) => nameLane(painter, scene, colours, lane, top, height));
  if (lanesOf(scene).some((lane) => lane?.told)) {
    painter.text("- - forecast", scene.width - 2, 12, 12, colours.purple, { align: "right", bold: true });
    painter.text("measured", scene.width - 100, 12, 12, colours.ink, { align: "right" });
  }
}

/** The name of a lane at its left, and the ends of its range at its right. */
function nameLane(painter, scene, colours, lane, top, height) {
  const [low, high] = lane.range.map((value) => told(value, lane.decimals));
  const room = Math.floor(scene.width / 7.2) - high.length - 2; // letters
  const words = shortened(lane.unit ? `${lane.name}, ${lane.unit}` : lane.name, Math.max(room, 1));
  const write = (text, x, y, look) => {
    const wide = text.length * 6.4 + 4;
    painter.rect(look.align === "left" ? x - 2 : x - wide + 2, y - 7, wide, 14, colours.surface, 0.88);
    painter.text(text, x, y, 11.5, look.colour, look);
  };
  write(high, scene.width - 2, top + 9, { align: "right", colour: colours.quiet });
  if (height >= 34) write(low, scene.width - 2, top + height - 9, { align: "right", colour: colours.quiet });
  write(words, 3, top + 9, { align: "left", colour: colours.ink, bold: true });
}

/** A name of so many letters at most, with an ellipsis for the rest. */
function shortened(name, letters) {
  const all = Array.from(name);
  return all.length > letters ? `${all.slice(0, letters - 1).join("")}…` : name;
}

/** Call `paint(lane, top, height)` for each lane. */
function eachLane(scene, at, paint) {
  const lanes = lanesOf(scene).filter(Boolean);
  const height = at.inputHeight / (lanes.length || 1);
  lanes.forEach((lane, i) => paint(lane, at.input + i * height, height));
}

/** Call `paint(first step, last step, x, width)` for each step, or for each pixel if steps are narrower. */
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

/** Shades instead of names that do not fit, without the quiet ones. */
function shadeNames(painter, scene, row, y, height, quiet) {
  // With few different tokens each has its own shade; with many, all have the same.
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

/** Whether steps are wide enough for the names. */
function namesFit(row, wide) {
  row.longest = 1;
  for (const id of new Set(row.ids)) row.longest = Math.max(row.longest, lettersOf(row.names[id]));
  return wide >= LETTER * row.longest + (row.longest > 1 ? BETWEEN : 0);
}

/** The width of a name in letters; those of Chinese, Japanese and Korean, and pictures, take two. */
function lettersOf(name) { return Array.from(name).reduce((sum, letter) => sum + (letter.codePointAt(0) > 0x2e7f ? 2 : 1), 0); }

function drawNamesOf(painter, scene, row, y, lookOf) {
  const [first, last] = inView(scene);
  const wide = scene.width / scene.view.span;
  const size = Math.min(15, Math.max(9.5, row.longest > 1 ? ((wide - BETWEEN) / row.longest) * 1.63 : wide * 1.35)); // a letter is 0.61 as wide as tall
  for (let step = first; step <= last; step++) {
    const id = row.ids[step - 1];
    const quiet = scene.sequence.quiet.has(id) && row.names === scene.sequence.legend.names;
    const look = lookOf(step);
    if (look.skip) continue;
    painter.text(row.names[id], xOf(scene, step), y, size, look.colour ?? row.colour, { mono: true, bold: look.bold, alpha: quiet ? 0.22 : look.alpha ?? 1 });
  }
}

/** The prediction at each step; known errors are underlined. */
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
  } else if (!shared) {
    nameRuns(painter, scene, row, y);
  }
  eachColumn(scene, (first, last, x, wide) => {
    let wrong = 0;
    for (let step = first; step <= last; step++) wrong += sequence.wrong(step);
    if (wrong) painter.rect(x, at.output + at.outputHeight - 3, Math.max(wide, 1), 3, colours.credit, 0.3 + (0.7 * wrong) / (last - first + 1));
  });
}

/** Names of answers that do not fit into a step: once for each run of steps with the same answer that is wide enough. */
function nameRuns(painter, scene, row, y) {
  const [first, last] = inView(scene);
  const wide = scene.width / scene.view.span;
  for (let begin = first, step = first; step <= last; step++) {
    if (step < last && row.ids[step] === row.ids[begin - 1]) continue;
    const name = row.names[row.ids[begin - 1]];
    if (wide * (step - begin + 1) >= 1.3 * LETTER * lettersOf(name)) {
      painter.text(name, (xOf(scene, begin) + xOf(scene, step)) / 2, y, 11.5, row.colour, { alpha: 0.6 });
    }
    begin = step + 1;
  }
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

/** The input times gradient of each step, behind lines or below pixels. */
function drawReached(painter, scene, colours, at) {
  const { reached, legend } = scene.sequence;
  const height = legend.kind === "pixels" ? 6 : at.inputHeight;
  const columns = [];
  let most = 0;
  eachColumn(scene, (first, last, x, wide) => {
    let sum = 0;
    for (let step = first; step <= last; step++) sum += reached[step - 1];
    columns.push([x, wide, sum / (last - first + 1)]);
    most = Math.max(most, sum / (last - first + 1));
  });
  for (const [x, wide, mean] of columns) {
    if (mean) painter.rect(x, at.input + at.inputHeight - height, wide + 0.2, height, colours.credit, 0.55 * (mean / most));
  }
}

/** The steps before the first of a sequence that is shorter than others. */
function drawPadding(painter, scene, colours, at) {
  const wide = xOf(scene, scene.sequence.padding + 0.5);
  painter.rect(0, at.input, wide, at.inputHeight, colours.line, 0.6);
  if (wide > 60) painter.text("padding", wide / 2, at.input + at.inputHeight / 2, 11.5, colours.quiet);
}

function drawWave(painter, scene, colours, at) {
  const yOf = heightIn(scene.sequence.range, at.input, at.inputHeight);
  const [low, high] = scene.sequence.range;
  if (low < 0 && high > 0) painter.line([0, yOf(0), scene.width, yOf(0)], colours.line, 1);
  painter.line(wavePoints(scene, yOf), colours.ink, 1.2);
}

/** A line for each value of a step, each on its own scale, and over it the forecasts, which are of the next step. */
function drawLanes(painter, scene, colours, at) {
  eachLane(scene, at, (lane, top, height) => {
    const yOf = heightIn(lane.range, top, height);
    if (top > at.input) painter.line([0, top, scene.width, top], colours.line, 1);
    painter.line(throughEnds(scene, yOf, (step) => [lane.own[step - 1]]), colours.ink, 1.2);
    if (!lane.told) return;
    const later = throughEnds(scene, yOf, (step) => step > 1 ? [lane.told[step - 2]] : []);
    painter.line(later, colours.purple, 1.5, 0.9, [5, 3]);
  });
}

/** The function from a value to its y, within a range. */
function heightIn([low, high], top, height) { return (value) => top + 5 + (height - 10) * (1 - (value - low) / (high - low)); }

/** The points of a line through all values of all steps. */
function wavePoints(scene, yOf) {
  const { values, width } = scene.sequence;
  return throughEnds(scene, yOf, (step) => values.subarray((step - 1) * width, step * width));
}

/**
 * The points of a line through some values of each step or, if these are denser than pixels, through the least and the
 * greatest in each pixel. NaN is a gap.
 */
function throughEnds(scene, yOf, valuesOf) {
  const points = [];
  eachColumn(scene, (first, last, x, wide) => {
    const here = first === last ? valuesOf(first) : null;
    if (here !== null && here.length < 2 * wide) {
      here.forEach((value, i) => points.push(x + ((i + 0.5) / here.length) * wide, yOf(value)));
      return;
    }
    const pixels = here === null ? 1 : Math.max(1, Math.floor(wide)); // each with a stroke of its own, or a tone is a row of boxes
    for (let pixel = 0; pixel < pixels; pixel++) {
      const middle = x + ((pixel + 0.5) / pixels) * wide;
      const part = (share) => Math.floor((share * here.length) / pixels);
      const found = here === null ? endsOf(first, last, valuesOf) : endsIn(here.slice(part(pixel), part(pixel + 1)));
      const ends = found.map(yOf);
      const before = points.at(-1);
      if (Math.abs(before - ends[1]) < Math.abs(before - ends[0])) ends.reverse(); // from the nearer end, so that it does not zigzag
      points.push(middle, ends[0], middle, ends[1]);
    }
  });
  return points;
}

/** The least and the greatest of some values; NaN if none is known. */
function endsIn(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [NaN, NaN];
}

/** The same of all values of some steps. */
function endsOf(first, last, valuesOf) {
  const found = [];
  for (let step = first; step <= last; step++) found.push(...endsIn(valuesOf(step)));
  return endsIn(found);
}

/** Bars with the total credit of each memory. */
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
  painter.line([0, at.axis, scene.width, at.axis], colours.line, 1);
  let free = -Infinity; // the end of the last label
  for (const [step, label] of ticksOf(scene)) {
    const x = xOf(scene, step);
    const half = label.length * 3.6;
    painter.line([x, at.axis, x, at.axis + 4], colours.quiet, 1);
    const middle = Math.min(Math.max(x, half), scene.width - half);
    if (middle - half < free + 8) continue;
    painter.text(label, middle, at.axis + 13, 12, colours.quiet);
    free = middle + half;
  }
}

/** The steps that the axis marks, with their labels: round numbers or, if the steps have times, midnights and times. */
function ticksOf(scene) {
  const [first, last] = inView(scene);
  const { times } = scene.sequence;
  const perPixel = scene.view.span / scene.width;
  if (times === null) return roundSteps(first, last, niceGap(perPixel * 70)).map((step) => [step, step.toLocaleString("en")]);
  const days = [];
  for (let step = first; step <= last; step++) if (times[step - 1].endsWith(" 00:00")) days.push([step, times[step - 1].slice(0, -6)]);
  const apart = Math.ceil((days.length * 84) / scene.width);
  if (days.length > 2) return days.filter((_, i) => i % apart === 0);
  const letters = times.slice(first - 1, last).reduce((most, time) => Math.max(most, time.length), 1);
  return roundSteps(first, last, niceGap(perPixel * (letters * 7.2 + 12))).map((step) => [step, times[step - 1]]);
}

/** The first step of all and the multiples of a gap, between two steps. */
function roundSteps(first, last, gap) {
  const steps = first === 1 && gap > 1 ? [1] : [];
  for (let step = Math.ceil(first / gap) * gap; step <= last; step += gap) steps.push(step);
  return steps;
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function niceGap(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return power * [1, 2, 5, 10].find((times) => times * power >= least);
}

/** Shade the latest steps before each recalled memory. */
function shadeSegments(painter, scene, colours, at, memories) {
  for (const { step, amount } of memories) {
    const first = Math.max(step - scene.sequence.interval + 1, 1);
    const wide = scene.width / scene.view.span;
    const x = xOf(scene, first) - wide / 2;
    painter.rect(x, at.input, wide * (step - first + 1), at.inputHeight, colours.recall, 0.08 + 0.3 * Math.min(amount, 1));
  }
}
