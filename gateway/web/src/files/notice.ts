/** What a pane says about what was just done in it. */
import { useCallback, useMemo, useRef, useState } from "react";
import { announce } from "../announce";
import type { Side } from "./places";

export interface NoticeAction {
  readonly label: string;
  readonly run: () => void;
}

export interface Notice {
  readonly kind: "info" | "warn" | "error";
  readonly what: string;
  readonly who?: string | undefined;
  readonly help?: string | undefined;
  readonly action?: NoticeAction | undefined;
}

export interface Notices {
  readonly shown: Readonly<Record<Side, Notice | undefined>>;
  /** Shows something in a pane and has it read out; what is no failure goes away by itself. */
  readonly say: (side: Side, notice: Notice) => void;
  readonly dismiss: (side: Side) => void;
}

const SHOWN_MS = 6000;
const NONE: Notices["shown"] = { left: undefined, right: undefined };

export function useNotices(): Notices {
  const [shown, setShown] = useState(NONE);
  const timers = useRef<Partial<Record<Side, ReturnType<typeof setTimeout>>>>({});

  const dismiss = useCallback((side: Side) => {
    clearTimeout(timers.current[side]);
    setShown((before) => (before[side] ? { ...before, [side]: undefined } : before));
  }, []);

  const say = useCallback(
    (side: Side, notice: Notice) => {
      clearTimeout(timers.current[side]);
      setShown((before) => ({ ...before, [side]: notice }));
      announce([notice.what, notice.who, notice.help].filter(Boolean).join(" "));
      if (notice.kind === "info") timers.current[side] = setTimeout(() => dismiss(side), SHOWN_MS);
    },
    [dismiss],
  );

  return useMemo(() => ({ shown, say, dismiss }), [shown, say, dismiss]);
}
