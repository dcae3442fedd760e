/** Dark or light: as chosen, else as the system has it; `theme.js` sets it before the page is painted. */
import { useSyncExternalStore } from "react";

export type Theme = "dark" | "light";

const KEY = "wherry.theme";
const listeners = new Set<() => void>();
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen(): Theme | undefined {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "dark" || kept === "light" ? kept : undefined;
  } catch {
    return undefined; // no storage in this browser
  }
}

function current(): Theme {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

function apply(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
  for (const listener of listeners) listener();
}

/** Chooses a theme, for this browser and for good. */
export function chooseTheme(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Then it holds until the page is left.
  }
  apply(theme);
}

const fromElsewhere = () => apply(chosen() ?? (system.matches ? "dark" : "light"));
system.addEventListener("change", fromElsewhere);
window.addEventListener("storage", (event) => {
  if (event.key === KEY) fromElsewhere();
});

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, current);
}
