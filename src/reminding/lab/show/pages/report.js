// Draws the charts in the light or dark colours of the page, and copies commands.

const INK = "#000000"; // a line of this colour gets the colour of the text
const NARROW = 560; // pixels; narrower charts have smaller margins and legends

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
    hoverlabel: { bgcolor: paper, bordercolor: grid, font: { color: ink } },
    annotations: (given.annotations ?? []).map((each) => ({ ...each, font: { color: quiet, size: 12 } })),
  };
}

function draw(place) {
  const { data, layout: given } = JSON.parse(place.nextElementSibling.textContent);
  if (given.height) place.style.height = `${given.height}px`;
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
