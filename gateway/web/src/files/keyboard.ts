/** What the keys mean while a list has the focus. */

export type PaneCommand =
  | { readonly kind: "move"; readonly to: number; readonly ctrl: boolean; readonly shift: boolean }
  | { readonly kind: "toggle" | "open" | "up" | "other" | "copyAcross" | "clip" | "paste" | "all" | "none" | "filter" };

export interface KeyPress {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly shiftKey: boolean;
  readonly altKey: boolean;
}

export interface KeyContext {
  readonly active: number;
  readonly count: number;
  /** Rows that one page holds. */
  readonly page: number;
  readonly side: "left" | "right";
}

/** The command that a key stands for, or undefined for one that is not ours. */
export function commandOf(press: KeyPress, context: KeyContext): PaneCommand | undefined {
  const ctrl = press.ctrlKey || press.metaKey;
  if (press.altKey) return undefined;
  const target = moveTarget(press.key, context);
  if (target !== undefined) {
    const to = Math.max(0, Math.min(context.count - 1, target));
    return { kind: "move", to, ctrl, shift: press.shiftKey };
  }
  if (ctrl) return withCtrl(press.key);
  switch (press.key) {
    case " ":
      return { kind: "toggle" };
    case "Enter":
      return { kind: "open" };
    case "Backspace":
      return { kind: "up" };
    case "Escape":
      return { kind: "none" };
    case "/":
      return { kind: "filter" };
    case "ArrowRight":
      return context.side === "left" ? { kind: "other" } : undefined;
    case "ArrowLeft":
      return context.side === "right" ? { kind: "other" } : undefined;
    default:
      return undefined;
  }
}

function moveTarget(key: string, { active, count, page }: KeyContext): number | undefined {
  switch (key) {
    case "ArrowDown":
      return active + 1;
    case "ArrowUp":
      return active - 1;
    case "PageDown":
      return active + page;
    case "PageUp":
      return active - page;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return undefined;
  }
}

function withCtrl(key: string): PaneCommand | undefined {
  switch (key) {
    case "Enter":
      return { kind: "copyAcross" };
    case "a":
    case "A":
      return { kind: "all" };
    case "c":
    case "C":
      return { kind: "clip" };
    case "v":
    case "V":
      return { kind: "paste" };
    case " ":
      return { kind: "toggle" };
    default:
      return undefined;
  }
}
