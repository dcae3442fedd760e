// Runs before anything is painted, so that nobody who chose dark is shown a white flash. A file of its own because the
// page's security policy admits no scripts within the page.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("wherry.theme");
  } catch {
    // No storage in this browser: the system's preference it is.
  }
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
