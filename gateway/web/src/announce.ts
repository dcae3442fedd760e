/** Says things to people who listen to the page: texts for a live region, read out by screen readers. */

type Listener = (text: string) => void;
let listener: Listener | undefined;

/** Has a text read out when the reader is done with what it is saying. */
export function announce(text: string): void {
  listener?.(text);
}

/** The one live region registers here; returns how it leaves. */
export function listen(to: Listener): () => void {
  listener = to;
  return () => {
    if (listener === to) listener = undefined;
  };
}
