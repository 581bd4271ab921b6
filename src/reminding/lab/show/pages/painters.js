// Two painters with the same methods, one for the screen and one for SVG. All lengths are in CSS pixels.

class CanvasPainter {
  constructor(canvas, width, height, scale) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    this.pen = canvas.getContext("2d");
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
  }

  rect(x, y, width, height, colour, alpha = 1) {
    this.pen.globalAlpha = alpha;
    this.pen.fillStyle = colour;
    this.pen.fillRect(x, y, width, height);
  }

  frame(x, y, width, height, colour, thickness = 1) {
    this.pen.globalAlpha = 1;
    this.pen.strokeStyle = colour;
    this.pen.lineWidth = thickness;
    this.pen.strokeRect(x, y, width, height);
  }

  dot(x, y, radius, colour, alpha = 1) {
    this.pen.globalAlpha = alpha;
    this.pen.fillStyle = colour;
    this.pen.beginPath();
    this.pen.arc(x, y, radius, 0, 2 * Math.PI);
    this.pen.fill();
  }

  /** Half an ellipse from one point of a level line to another; a negative height hangs below it. */
  arc(x0, x1, y, height, colour, thickness, alpha = 1, dashes = []) {
    this.pen.globalAlpha = alpha;
    this.pen.setLineDash(dashes);
    this.pen.strokeStyle = colour;
    this.pen.lineWidth = thickness;
    this.pen.beginPath();
    const above = height > 0;
    this.pen.ellipse((x0 + x1) / 2, y, (x1 - x0) / 2, Math.abs(height), 0, above ? Math.PI : 0, above ? 0 : Math.PI);
    this.pen.stroke();
    this.pen.setLineDash([]);
  }

  /** A line through points [x0, y0, x1, y1, ...], with a gap where y is NaN; a point between two gaps is a dot. */
  line(points, colour, thickness, alpha = 1, dashes = []) {
    this.pen.globalAlpha = alpha;
    this.pen.setLineDash(dashes);
    this.pen.strokeStyle = colour;
    this.pen.lineWidth = thickness;
    this.pen.lineJoin = "round";
    this.pen.beginPath();
    for (const stretch of stretches(points, thickness)) {
      this.pen.moveTo(stretch[0], stretch[1]);
      for (let i = 2; i < stretch.length; i += 2) this.pen.lineTo(stretch[i], stretch[i + 1]);
    }
    this.pen.stroke();
    this.pen.setLineDash([]);
  }

  text(words, x, y, size, colour, { align = "center", mono = false, bold = false, alpha = 1 } = {}) {
    this.pen.globalAlpha = alpha;
    this.pen.font = `${bold ? "600 " : ""}${size}px ${mono ? "ui-monospace, monospace" : "system-ui, sans-serif"}`;
    this.pen.fillStyle = colour;
    this.pen.textAlign = align;
    this.pen.textBaseline = "middle";
    this.pen.fillText(words, x, y);
  }

  /** What `paint` draws, cut to a rectangle. */
  within(x, y, width, height, paint) {
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(x, y, width, height);
    this.pen.clip();
    paint();
    this.pen.restore();
  }
}

class SvgPainter {
  constructor(width, height) {
    Object.assign(this, { width, height, parts: [], cuts: 0 });
  }

  rect(x, y, width, height, colour, alpha = 1) {
    this.add("rect", { x, y, width, height, fill: colour, opacity: alpha });
  }

  frame(x, y, width, height, colour, thickness = 1) {
    this.add("rect", { x, y, width, height, fill: "none", stroke: colour, "stroke-width": thickness });
  }

  dot(x, y, radius, colour, alpha = 1) {
    this.add("circle", { cx: x, cy: y, r: radius, fill: colour, opacity: alpha });
  }

  arc(x0, x1, y, height, colour, thickness, alpha = 1, dashes = []) {
    const [from, to, across, up] = [x0, x1, (x1 - x0) / 2, Math.abs(height)].map(short);
    const d = `M${from} ${short(y)}A${across} ${up} 0 0 ${height > 0 ? 1 : 0} ${to} ${short(y)}`;
    this.add("path", { d, fill: "none", stroke: colour, "stroke-width": thickness, opacity: alpha, ...dashed(dashes) });
  }

  line(points, colour, thickness, alpha = 1, dashes = []) {
    const look = { fill: "none", stroke: colour, "stroke-width": thickness, "stroke-linejoin": "round", opacity: alpha, ...dashed(dashes) };
    for (const stretch of stretches(points, thickness)) this.add("polyline", { points: Array.from(stretch, short).join(" "), ...look });
  }

  text(words, x, y, size, colour, { align = "center", mono = false, bold = false, alpha = 1 } = {}) {
    const anchor = { center: "middle", left: "start", right: "end" }[align];
    const look = { x, y, "font-size": size, fill: colour, "text-anchor": anchor, "dominant-baseline": "central", opacity: alpha };
    const family = mono ? "ui-monospace, monospace" : "system-ui, sans-serif";
    this.add("text", { ...look, "font-family": family, "font-weight": bold ? 600 : 400 }, escaped(words));
  }

  within(x, y, width, height, paint) {
    const id = `cut${this.cuts++}`;
    this.parts.push(`<clipPath id="${id}"><rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"/></clipPath>`);
    this.parts.push(`<g clip-path="url(#${id})">`);
    paint();
    this.parts.push("</g>");
  }

  add(name, attributes, inside = "") {
    const written = Object.entries(attributes)
      .filter(([key, value]) => !(key === "opacity" && value === 1))
      .map(([key, value]) => `${key}="${typeof value === "number" ? short(value) : value}"`);
    this.parts.push(`<${name} ${written.join(" ")}${inside ? `>${inside}</${name}>` : "/>"}`);
  }

  /** The whole drawing. */
  written() {
    const size = `width="${this.width}" height="${this.height}" viewBox="0 0 ${this.width} ${this.height}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>\n${this.parts.join("\n")}\n</svg>\n`;
  }
}

/** The attribute of SVG for dashes; none for a whole line. */
function dashed(dashes) { return dashes.length ? { "stroke-dasharray": dashes.join(" ") } : {}; }

/** The stretches of a line [x0, y0, x1, y1, ...] between gaps, where y is NaN. A single point is as long as the line is thick. */
function stretches(points, thickness) {
  const found = [];
  let now = [];
  for (let i = 0; i <= points.length; i += 2) {
    if (i < points.length && !Number.isNaN(points[i + 1])) now.push(points[i], points[i + 1]);
    else if (now.length) {
      if (now.length === 2) now.push(now[0] + thickness, now[1]);
      found.push(now);
      now = [];
    }
  }
  return found;
}

function short(number) { return Math.round(number * 100) / 100; }

function escaped(text) { return text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`); }
