// The numbers beside the drawing: of all steps, or of the chosen one.

const ROWS = 8; // in a table

function showDetails() {
  if (!scene.layer) return;
  $("details").replaceChildren(...(state.focus === null ? overall() : aboutStep(state.focus)));
}

function made(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text ?? "";
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** Without a chosen step: the memories with the most credit. */
function overall() {
  const { credit, recall } = scene.layer;
  const [links, what] = credit.total ? [credit, "credit"] : [recall, "recall weight"];
  const best = Array.from(links.received.keys()).filter((step) => links.received[step] > 0);
  best.sort((a, b) => links.received[b] - links.received[a]);
  const rows = best.slice(0, ROWS).map((step) => [step, noteOf(step), remembered(step), percent(links.received[step] / links.total)]);
  return [
    ...whereItMet(), // of numbers this comes first: it points at inputs, where a memory points at a stretch of them
    table(`Memories with the most ${what}`, ["memory", scene.sequence.noted, "read last", "share"], rows, credit.total ? "credit" : "recall"),
    made("p", "Point at a step, tap it, or use the arrow keys.", { class: "quiet" }),
  ];
}

function noteOf(step) { return scene.sequence.noteOf(step); }

/** The steps with the largest input times gradient; nothing if the input is tokens. */
function whereItMet() {
  const { reached, reachedInAll } = scene.sequence;
  if (!reachedInAll) return [];
  const best = Array.from(reached.keys()).filter((i) => reached[i] > 0).sort((a, b) => reached[b] - reached[a]);
  const rows = best.slice(0, ROWS / 2).map((i) => [i + 1, noteOf(i + 1), percent(reached[i] / reachedInAll)]);
  return [table("Where the gradient met the input", ["step", scene.sequence.noted, "share"], rows, "credit met")];
}

function aboutStep(step) {
  const { sequence, layer } = scene;
  const facts = made("dl", "", { class: "numbers" });
  const target = sequence.wantedAt(step);
  const known = sequence.forecast ? [] : [["input", sequence.readAt(step)], ["prediction", sequence.answerAt(step)], ["target", target]];
  if (sequence.reachedInAll) known.push(["input × gradient", `${percent(sequence.reached[step - 1] / sequence.reachedInAll)} of all`]);
  for (const [name, value] of known.filter(([, value]) => value !== null)) {
    facts.append(made("dt", name), made("dd", value, name === "prediction" && sequence.wrong(step) ? { class: "wrong" } : {}));
  }
  const called = sequence.called(step);
  const parts = [made("h2", called[0].toUpperCase() + called.slice(1)), ...forecastTable(step), facts];
  const memories = joined(layer.recall.memoriesOf(step), layer.credit.memoriesOf(step));
  const users = joined(layer.recall.usersOf(step), layer.credit.usersOf(step));
  const rowsOf = (ends) => ends.slice(0, ROWS).map((end) => [end.step, noteOf(end.step), remembered(end.step), end.weight.toFixed(3), share(end.credit)]);
  if (memories.length) parts.push(table("It recalled", ["memory", sequence.noted, "read last", "weight", "credit"], rowsOf(memories), "recall"));
  else parts.push(made("p", "It recalled nothing.", { class: "quiet" }));
  if (users.length) {
    const received = layer.credit.received[step];
    const credited = received ? `, and received ${share(received)} of all credit` : "";
    parts.push(table(`It was recalled by these steps${credited}`, ["step", sequence.noted, "read last", "weight", "credit"], rowsOf(users), "recalled-by"));
    if (users.length > ROWS) parts.push(made("p", `and by ${(users.length - ROWS).toLocaleString("en")} more`, { class: "quiet" }));
  }
  return parts;
}

/** The forecast columns of a table at a step: the value there, the forecast of the next one, and the truth. */
function forecastTable(step) {
  const { forecast, values, width, predicted, wanted, outputs } = scene.sequence;
  if (forecast === null) return [];
  const node = made("table", "", { class: "forecast" });
  const add = (row, tag, texts) => texts.forEach((text) => row.append(made(tag, text, tag === "th" ? { scope: "col" } : {})));
  add(node.createTHead().insertRow(), "th", ["column", "now", "forecast", "next"]);
  const body = node.createTBody();
  forecast.names.slice(0, LANES).forEach((name, i) => {
    const digits = forecast.decimals[i];
    const [now, predictedNext, next] = [values[(step - 1) * width + forecast.places[i]], predicted[(step - 1) * outputs + i], wanted[(step - 1) * outputs + i]];
    const unit = forecast.units[i];
    add(body.insertRow(), "td", [unit ? `${name}, ${unit}` : name, told(now, digits), told(predictedNext, digits), told(next, digits)]);
  });
  return [node];
}

/** An amount of credit, as its share of the total. */
function share(amount) { return percent(amount / (scene.layer.credit.total || 1)); }

/** The latest tokens before a memory was stored, as text; null if the input is not tokens. */
function remembered(step) { return scene.sequence.excerpt(step - scene.sequence.interval + 1, step); }

/** The ends of recalls, with the credit of the same links. */
function joined(recalls, credits) {
  const credited = new Map(credits.map((end) => [end.step, end.amount]));
  const ends = recalls.map((end) => ({ step: end.step, weight: end.signed, credit: credited.get(end.step) ?? 0 }));
  const known = new Set(recalls.map((end) => end.step));
  for (const end of credits) if (!known.has(end.step)) ends.push({ step: end.step, weight: 0, credit: end.amount });
  return ends;
}

/** A table whose first column links to steps; columns without values are left out. */
function table(caption, columns, rows, kind = "") {
  const filled = columns.map((_, i) => i).filter((i) => rows.some((row) => row[i] !== null));
  const node = made("table");
  if (caption) node.append(made("caption", caption, { class: kind }));
  const head = node.createTHead().insertRow();
  for (const i of filled) head.append(made("th", columns[i], { scope: "col", class: columns[i] === "read last" ? "read" : "" }));
  const body = node.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const i of filled) {
      const cell = line.insertCell();
      if (i) cell.textContent = row[i];
      else {
        cell.append(made("button", row[i].toLocaleString("en"), { type: "button", "aria-label": `go to step ${row[i]}` }));
        cell.firstChild.addEventListener("click", () => goTo(row[i]));
      }
      if (columns[i] === "read last") cell.className = "read";
    }
  }
  return node;
}

/** A step as one sentence, for screen readers. */
function inWords(step) {
  const { sequence, layer } = scene;
  const list = (ends, shown) => ends.slice(0, 3).map((end) => `${sequence.called(end.step)} (${shown(end.signed)})`).join(", ") || "nothing";
  const target = sequence.wantedAt(step);
  const answer = `read ${sequence.readAt(step)}, predicted ${sequence.answerAt(step)}${target === null ? "" : `, target ${target}`}`;
  const called = sequence.called(step);
  return `${called[0].toUpperCase()}${called.slice(1)}: ${answer}. Recalled ${list(layer.recall.memoriesOf(step), percent)}. Credit to ${list(layer.credit.memoriesOf(step), share)}.`;
}
