/**
 * What the tabs of a browser know together of its session. The tokens themselves are in cookies that no script reads;
 * this is only when they end and which of the session's renewals they come from.
 */

/** The browser's session, as far as its tabs have told each other. */
export interface SessionRecord {
  /** Names the sign-in, at random; null where there is none. */
  readonly signIn: string | null;
  /** Whether there is none because it has ended, and not because somebody signed out. */
  readonly ended?: boolean;
  /** How often its tokens have been renewed. */
  readonly renewals: number;
  /** When the access token ends, by the service's clock. */
  readonly accessExpiresMs: number;
  /** When a renewal was sent that has no answer yet. */
  readonly renewalSentMs?: number;
}

/** Where the record is kept, so that every tab sees it, and one tab at a time acts on it. */
export interface SharedRecord {
  /** Returns the record; undefined where nothing is known. */
  read(): SessionRecord | undefined;
  write(record: SessionRecord): void;
  /** Calls back when another tab has written; returns how to stop that. */
  follow(changed: () => void): () => void;
  /** Does some work while no other tab does any. */
  exclusively<T>(work: () => Promise<T>): Promise<T>;
}

const KEY = "wherry.session";

/** The record in this browser: local storage, and a lock of the browser's. */
export class BrowserRecord implements SharedRecord {
  // For browsers that refuse storage: the tab then knows for itself, and asks the service a little more often.
  #own: SessionRecord | undefined;

  read(): SessionRecord | undefined {
    try {
      return parse(localStorage.getItem(KEY)) ?? this.#own;
    } catch {
      return this.#own;
    }
  }

  write(record: SessionRecord): void {
    this.#own = record;
    try {
      localStorage.setItem(KEY, JSON.stringify(record));
    } catch {
      // Refused or full: as above.
    }
  }

  follow(changed: () => void): () => void {
    const heard = (event: StorageEvent) => {
      if (event.key === KEY) changed();
    };
    const shown = () => {
      if (document.visibilityState === "visible") changed(); // a tab that slept may have missed it
    };
    window.addEventListener("storage", heard);
    window.addEventListener("pageshow", shown);
    document.addEventListener("visibilitychange", shown);
    return () => {
      window.removeEventListener("storage", heard);
      window.removeEventListener("pageshow", shown);
      document.removeEventListener("visibilitychange", shown);
    };
  }

  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return navigator.locks.request(KEY, work) as Promise<T>;
  }
}

function parse(text: string | null): SessionRecord | undefined {
  if (text === null) return undefined;
  try {
    const found = JSON.parse(text) as Partial<SessionRecord> | null;
    const known =
      (typeof found?.signIn === "string" || found?.signIn === null) &&
      typeof found.renewals === "number" &&
      typeof found.accessExpiresMs === "number";
    return known ? (found as SessionRecord) : undefined;
  } catch {
    return undefined;
  }
}
