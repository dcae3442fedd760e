/** Small hooks: the time, the page's width, a session's end. */
import { useEffect, useState, useSyncExternalStore } from "react";
import type { SiteSession } from "../gen/wherry/site/v1/site_service_pb";
import { endsMs } from "./sites";

/** The time of now, told again every so often. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Whether a media query holds. */
export function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (listener) => {
      const media = window.matchMedia(query);
      media.addEventListener("change", listener);
      return () => media.removeEventListener("change", listener);
    },
    () => window.matchMedia(query).matches,
  );
}

export const SMALL = "(max-width: 760px)";
export const TOUCH = "(pointer: coarse)";

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The session while it lasts: at its end the component renders again, without it. */
export function useUntilItsEnd(session: SiteSession | undefined): SiteSession | undefined {
  const [, setEnded] = useState(0);
  useEffect(() => {
    if (!session) return;
    const left = Math.max(0, endsMs(session) - Date.now());
    const timer = setTimeout(() => setEnded(endsMs(session)), Math.min(left + 50, LONGEST_TIMER_MS));
    return () => clearTimeout(timer);
  }, [session]);
  return session && endsMs(session) > Date.now() ? session : undefined;
}
