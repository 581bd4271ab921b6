// Draws the charts in the light or dark colours of the page, and copies commands.

const INK = "#000000"; // a line of this colour gets the colour of the text
const NARROW = 560; // pixels; narrower charts have smaller margins and legends
const LETTER = 7.5, LINE = 19, GAP = 10, SIGN = 50; // pixels of a legend: a letter, a line, between entries, a line's sign

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function traces(data, ink) {
  return data.map((trace) => {
    const line = { ...trace.line };
    if (line.color?.toLowerCase() === INK) line.color = ink;
    return { ...trace, line };
  });
}

function layout(given, place) {
  const [ink, quiet, grid, paper] = ["ink", "quiet", "line", "surface"].map(colour);
  const narrow = place.clientWidth < NARROW;
  const axis = (old) => ({
    ...old, gridcolor: grid, linecolor: grid, zeroline: false, automargin: true, tickfont: { color: quiet },
    title: { ...old.title, font: { color: quiet, size: 13 }, standoff: 8 },
  });
  return {
    ...given,
    xaxis: axis({ ...given.xaxis, ...(narrow ? { nticks: 5 } : {}) }), yaxis: axis({ ...given.yaxis }),
    font: { family: "system-ui, sans-serif", color: ink, size: narrow ? 11 : 13 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: paper, bordercolor: grid, font: { color: ink }, namelength: -1 },
    annotations: (given.annotations ?? []).map((each) => ({ ...each, font: { color: quiet, size: 12 } })),
  };
}

// The height of a legend above a chart, whose entries stand in columns as wide as the widest.
function legendHeight(data, width) {
  const names = data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name.split("<br>"));
  const widest = Math.max(...names.flat().map((line) => line.length)) * LETTER + SIGN;
  const columns = Math.max(1, Math.floor(width / widest));
  const lines = Math.max(...names.map((name) => name.length));
  return Math.ceil(names.length / columns) * (lines * LINE + GAP);
}

function draw(place) {
  const { data, layout: given } = JSON.parse(place.nextElementSibling.textContent);
  place.style.height = "";
  const legend = legendHeight(data, place.clientWidth);
  const height = given.height ?? Math.max(place.clientHeight, 2 * legend + 80); // plotly gives a legend half of it
  place.style.height = `${height}px`;
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  return Plotly.react(place, traces(data, colour("ink")), layout(given, place), options);
}

function drawAll() {
  return Promise.all([...document.querySelectorAll(".chart")].map(draw));
}

async function copy(event) {
  const text = event.target.nextElementSibling.textContent;
  try {
    await navigator.clipboard.writeText(text);
    event.target.textContent = "Copied";
  } catch { // a page opened from disk may not be allowed to
    getSelection().selectAllChildren(event.target.nextElementSibling);
    event.target.textContent = "Selected";
  }
}

followTheme(drawAll);
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", copy));
drawAll().then(() => { document.documentElement.dataset.drawn = "yes"; });
