// The data of the page: numbers as base64, unpacked into typed arrays. Steps count from 1.

const ARRAYS = { i: Int32Array, f: Float32Array, d: Float64Array };

/** Unpack numbers: "i" (int32), "f" (float32) or "d" (float64), then base64 of the little-endian bytes. */
function unpacked(text) {
  const letters = atob(text.slice(1));
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i); // a callback a byte takes ten times as long
  return new ARRAYS[text[0]](bytes.buffer);
}

/** Links from later steps to the memories of earlier ones, indexed by both ends. */
class Links {
  /** `signed`: the amounts with their signs, if some are negative. */
  constructor(from, to, amount, steps, signed = amount) {
    Object.assign(this, { from, to, amount, steps, signed });
    this.byFrom = new Index(from, steps);
    this.byTo = new Index(to, steps);
    this.received = new Float64Array(steps + 1);
    this.total = 0;
    this.anyNegative = signed.some((weight) => weight < 0);
    for (let i = 0; i < to.length; i++) {
      this.received[to[i]] += amount[i];
      this.total += amount[i];
    }
  }

  /** The links of arrays with `width` slots per step, some of them empty. The arrays are overwritten. */
  static ofRecalls(to, amount, steps) {
    const width = to.length / steps;
    const from = new Int32Array(to.length);
    const signed = new Float32Array(to.length);
    let count = 0;
    for (let i = 0; i < to.length; i++) {
      if (to[i] <= 0 || amount[i] === 0) continue; // the release's weights may be negative
      from[count] = Math.floor(i / width) + 1;
      to[count] = to[i];
      signed[count] = amount[i];
      amount[count++] = Math.abs(amount[i]);
    }
    return new Links(from.subarray(0, count), to.subarray(0, count), amount.subarray(0, count), steps, signed);
  }

  /** The other ends of a step's links as {step, amount, signed}, the strongest first. */
  ends(step, index, others) {
    const ends = Array.from(index.of(step), (i) => ({ step: others[i], amount: this.amount[i], signed: this.signed[i] }));
    return ends.sort((a, b) => b.amount - a.amount);
  }

  /** The memories at the ends of a step's links. */
  memoriesOf(step) { return this.ends(step, this.byFrom, this.to); }

  /** The steps with links to a memory. */
  usersOf(step) { return this.ends(step, this.byTo, this.from); }
}

/** The links of each step, at one of their ends. */
class Index {
  constructor(ends, steps) {
    this.begin = new Int32Array(steps + 2);
    for (const step of ends) this.begin[step + 1]++;
    for (let step = 1; step < this.begin.length; step++) this.begin[step] += this.begin[step - 1];
    const place = this.begin.slice();
    this.links = new Int32Array(ends.length);
    for (let i = 0; i < ends.length; i++) this.links[place[ends[i]]++] = i;
  }

  of(step) { return this.between(step, step); }

  /** The links of steps `first` to `last`. */
  between(first, last) { return this.links.subarray(this.begin[first], this.begin[last + 1]); }
}

/** One sequence: its input, the network's predictions, and the links of each layer. */
class Sequence {
  constructor(packed, legend) {
    Object.assign(this, { name: packed.name, creditOf: packed.credit_of, steps: packed.steps, interval: packed.interval });
    Object.assign(this, { summary: packed.summary, verdict: packed.verdict, times: packed.times, forecast: packed.forecast ?? null });
    this.legend = legend;
    this.quiet = new Set(legend.quiet);
    Object.assign(this, { padding: packed.padding, clock: packed.clock, decimals: packed.decimals ?? [] });
    for (const name of ["tokens", "values", "answers", "sure", "predicted", "wanted", "reached"]) {
      this[name] = packed[name] === undefined ? null : unpacked(packed[name]);
    }
    this.reachedInAll = this.reached ? this.reached.reduce((sum, amount) => sum + amount, 0) : 0;
    this.width = this.values ? this.values.length / this.steps : 0;
    this.outputs = this.predicted ? this.predicted.length / this.steps : 0;
    this.layers = packed.layers.map((layer) => ({
      recall: Links.ofRecalls(unpacked(layer.step), unpacked(layer.weight), this.steps),
      credit: new Links(unpacked(layer.reader), unpacked(layer.memory), unpacked(layer.amount), this.steps),
    }));
    this.lanes = legend.kind === "lines" ? this.lanesOf(legend) : [];
    this.range = this.values ? extent(this.values) : [0, 1];
  }

  /** One lane for each value of a step, the forecast ones first. A value that is missing is NaN. */
  lanesOf(legend) {
    const places = this.forecast?.places ?? [];
    const shown = Array.from({ length: this.width }, (_, channel) => channel);
    const ordered = [...places, ...shown.filter((channel) => !places.includes(channel))];
    return ordered.map((channel) => {
      const column = places.indexOf(channel);
      const own = Float64Array.from({ length: this.steps }, (_, i) => this.values[i * this.width + channel]);
      const told = column < 0 ? null : Float64Array.from({ length: this.steps }, (_, i) => this.predicted[i * this.outputs + column]);
      const [[low, high], [least, most]] = [extent(own), extent(told ?? own)];
      const unit = legend.units?.[channel];
      const decimals = column < 0 ? this.decimals[channel] : this.forecast.decimals[column];
      return { name: legend.channels[channel] ?? String(channel), unit, own, told, decimals, range: [Math.min(low, least), Math.max(high, most)] };
    });
  }

  /** The time of a step; null if it is not known. */
  timeOf(step) { return this.times?.[step - 1] ?? null; }

  /** What a table says beside a step: its time, or that it is padding; null: nothing. */
  noteOf(step) { return this.times ? this.timeOf(step) : step <= this.padding ? "padding" : null; }

  /** The name of what `noteOf` says. */
  get noted() { return this.times ? this.clock : "note"; }

  /** A step by its number and, if it is known, its time; or by its number in the file, then in the excerpt. */
  called(step) {
    const time = this.timeOf(step);
    if (time !== null && this.clock === this.legend.unit) return `${this.clock} ${time} · step ${step.toLocaleString("en")}`; // of its file
    const where = time === null ? "" : ` · ${this.clock === "time" ? "" : `${this.clock} `}${time}`;
    return `${this.legend.unit} ${step.toLocaleString("en")}${where}${step <= this.padding ? " · padding" : ""}`;
  }

  /** Whether a step has a target; true if the targets are unknown. */
  asked(step) { return this.wanted === null || this.wanted[step - 1] >= 0; }

  /** Whether the prediction at a step is known to be wrong. */
  wrong(step) {
    return this.answers !== null && this.wanted !== null && this.asked(step) && this.wanted[step - 1] !== this.answers[step - 1];
  }

  /** The tokens of some steps as text; null if the input is not tokens. */
  excerpt(first, last) {
    if (this.legend.kind !== "tokens") return null;
    const names = [];
    for (let step = Math.max(first, 1); step <= Math.min(last, this.steps); step++) names.push(this.legend.names[this.tokens[step - 1]]);
    return names.join(names.every((name) => name.length === 1) ? "" : " ");
  }

  /** The input of a step, as text. */
  readAt(step) {
    if (this.legend.kind === "tokens") return this.legend.names[this.tokens[step - 1]];
    if (step <= this.padding) return "padding";
    const values = this.values.subarray((step - 1) * this.width, step * this.width);
    if (this.width <= 4) return named(values, this.legend.channels, this.legend.units, this.decimals);
    const missing = values.reduce((count, value) => count + Number.isNaN(value), 0);
    return `${this.width} values${missing ? `, ${missing} of them missing` : ""}`;
  }

  /** The prediction at a step, as text. */
  answerAt(step) {
    if (this.answers === null) return this.outputsOf(this.predicted, step);
    return `${this.legend.classes[this.answers[step - 1]]} (${percent(this.sure[step - 1])})`;
  }

  /** The target of a step, as text; null if there is none or it is unknown. */
  wantedAt(step) {
    if (this.wanted === null) return null;
    if (this.answers !== null) return this.asked(step) ? this.legend.classes[this.wanted[step - 1]] : null;
    const values = this.wanted.subarray((step - 1) * this.outputs, step * this.outputs);
    return this.forecast === null && values.every(Number.isNaN) ? null : this.outputsOf(this.wanted, step);
  }

  /** What is predicted at a step, of predictions or targets, as text. */
  outputsOf(values, step) {
    const { names, units, decimals } = this.forecast ?? { names: this.legend.channels, units: this.legend.units, decimals: [] };
    return named(values.subarray((step - 1) * this.outputs, step * this.outputs), names, units, decimals);
  }
}

const DIGITS = 16; // of a value with an exponent; these four are those of digits.py
const PLAIN = 9;
const [SMALL, LARGE] = [1e-4, 1e15];

/** A value with so many decimals, as `in_digits` in digits.py writes it; undefined: three digits. */
function told(value, decimals) {
  if (Number.isNaN(value)) return "missing";
  if (decimals === undefined) return value.toPrecision(3);
  const size = Math.abs(value);
  if (Number.isFinite(size) && (size >= LARGE || (decimals > PLAIN && size > 0 && size < SMALL))) {
    return value.toExponential(Math.min(Math.max(decimals + Math.floor(Math.log10(size)), 0), DIGITS));
  }
  if (decimals < 0 && Number.isFinite(size)) value = Math.round(value / 10 ** -decimals) * 10 ** -decimals;
  return value.toFixed(size ? Math.max(decimals, 0) : Math.min(Math.max(decimals, 0), PLAIN)).replace(/^-(0\.?0*)$/, "$1");
}

/** Values with their names and units; a single value has no name. */
function named(values, names, units, decimals) {
  const shown = Array.from(values, (value, i) => `${told(value, decimals[i % decimals.length])}${units?.[i] && !Number.isNaN(value) ? ` ${units[i]}` : ""}`);
  return shown.length === 1 ? shown[0] : shown.map((value, i) => `${names[i] ?? i}: ${value}`).join(", ");
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1]; // all are missing
  return high > low ? [low, high] : [low - 1, low + 1];
}

/** A share as a percentage; only 0 is shown as 0%. */
function percent(share) {
  if (share < 0) return `-${percent(-share)}`;
  if (share > 0 && share < 0.0005) return "<0.1%";
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}%`;
}
