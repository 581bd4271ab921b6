// Light or dark: as the reader's system is, until the button says otherwise.

function isDark() {
  const { theme } = document.documentElement.dataset;
  return (theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

/** Lets the button #theme switch, and calls `redraw` whenever the colours have changed. */
function followTheme(redraw) {
  document.getElementById("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

