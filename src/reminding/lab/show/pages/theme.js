// Light or dark: the system's choice, until the reader uses the button.

function isDark() {
  const { theme } = document.documentElement.dataset;
  return (theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

/** Make the button #theme switch the theme, and call `redraw` whenever the colours change. */
function followTheme(redraw) {
  document.getElementById("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

