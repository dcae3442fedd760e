import { Moon, Sun } from "lucide-react";
import { chooseTheme, useTheme } from "../theme";
import { words } from "../words";

export function ThemeToggle() {
  const dark = useTheme() === "dark";
  const does = dark ? words.shell.toLight : words.shell.toDark;
  return (
    <button
      type="button"
      className="icon-btn"
      aria-label={does}
      title={does}
      onClick={() => chooseTheme(dark ? "light" : "dark")}
    >
      {dark ? <Sun size={17} aria-hidden /> : <Moon size={17} aria-hidden />}
    </button>
  );
}
