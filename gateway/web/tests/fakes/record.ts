/** What the tabs of a browser share, without a browser. */
import type { SessionRecord, SharedRecord } from "../../src/session-record";

/** A browser; `tab()` opens another tab. */
export class FakeBrowser {
  record: SessionRecord | undefined;
  readonly #followers = new Map<object, () => void>();
  #queue: Promise<unknown> = Promise.resolve();

  tab(): SharedRecord {
    const self = {};
    return {
      read: () => this.record,
      write: (record) => {
        this.record = record;
        for (const [tab, changed] of this.#followers) if (tab !== self) queueMicrotask(changed);
      },
      follow: (changed) => {
        this.#followers.set(self, changed);
        return () => this.#followers.delete(self);
      },
      exclusively: (work) => {
        const done = this.#queue.then(work);
        this.#queue = done.catch(() => undefined);
        return done;
      },
    };
  }

  /** A tab is closed while it holds the lock: the browser gives it to the next. */
  releaseLock(): void {
    this.#queue = Promise.resolve();
  }
}
