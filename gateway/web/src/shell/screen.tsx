/** One screen: its title, and the focus, which follows a person who goes from one to another. */
import { type ReactNode, useEffect, useRef } from "react";
import { ErrorBoundary } from "./error-boundary";
import { useTitle } from "./title";

let shownBefore = false;

export function Screen({ title, children }: { title: string; children: ReactNode }) {
  useTitle(title);
  const main = useRef<HTMLElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the title is what changes from screen to screen
  useEffect(() => {
    // Not for the first one: there the browser's own order holds, beginning with the link that skips the bar.
    if (shownBefore && !main.current?.contains(document.activeElement)) main.current?.focus();
    shownBefore = true;
  }, [title]);
  return (
    <main id="main" className="screen" tabIndex={-1} ref={main}>
      <ErrorBoundary key={title}>{children}</ErrorBoundary>
    </main>
  );
}
