/** One directory as it comes in: an external store that a pane reads, fed by one stream at a time. */
import type { Client } from "@connectrpc/connect";
import { describe, type Problem } from "../failure";
import type { FileService } from "../gen/wherry/queue/v1/file_service_pb";
import { EntryKind } from "../gen/wherry/type/v1/entry_pb";
import { words } from "../words";
import { locationOf } from "./copying";
import { type Explained, explainFailure, explainProblem } from "./explained";
import { pathOf, type SitePath } from "./path";
import type { Place } from "./places";
import { type Row, rowOf } from "./row";

export type FileClient = Pick<Client<typeof FileService>, "listDirectory">;

/**
 * `loading`: rows come in; `complete`: all are there; `failed`: see `failure`; `signedOut`: the site wants a sign-in.
 */
export type ListingStatus = "loading" | "complete" | "failed" | "signedOut";

export interface ListingState {
  readonly status: ListingStatus;
  /** Grows in place while a listing comes in; the first `count` are meant. Another array is another listing. */
  readonly rows: readonly Row[];
  readonly count: number;
  /** The absolute path, as soon as the site has told it. */
  readonly path: SitePath | undefined;
  /** Whether what is listed is no directory. */
  readonly isFile: boolean;
  readonly failure: Explained | undefined;
  /** Whether the same directory is being read again while the old rows are shown. */
  readonly refreshing: boolean;
  /** Rows that are sure to be in the answer that is awaited. */
  readonly expected: readonly Row[];
}

const NONE: readonly Row[] = [];

const BLANK: ListingState = {
  status: "loading",
  rows: NONE,
  count: 0,
  path: undefined,
  isFile: false,
  failure: undefined,
  refreshing: false,
  expected: NONE,
};

const CUT_OFF: Explained = { reason: "LISTING_CUT_OFF", what: words.files.states.cutOff, retryable: true };

const SIGN_IN_REASONS = new Set(["SITE_SIGN_IN_REQUIRED", "SITE_SESSION_EXPIRED"]);

let made = 0;

export class Listing {
  /** Tells one listing from another, as a key of what is made of it. */
  readonly id: number;
  readonly place: Place;
  readonly #client: FileClient;
  readonly #listeners = new Set<() => void>();
  #state = BLANK;
  #current: AbortController | undefined;

  constructor(client: FileClient, place: Place) {
    made += 1;
    this.id = made;
    this.#client = client;
    this.place = place;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly read = (): ListingState => this.#state;

  /** Reads the directory, unless that is going on or done. */
  start(): void {
    if (this.#current || this.#state.status === "complete") return;
    this.#publish(BLANK);
    void this.#run((answer) => this.#publish(answer));
  }

  /** Reads it again. What is shown stays until the new listing is whole; so nothing jumps, and a selection holds. */
  refresh(expected: readonly Row[] = NONE): void {
    if (this.#state.status !== "complete") {
      this.stop();
      this.start();
      return;
    }
    this.#current?.abort();
    this.#publish({ refreshing: true, failure: undefined, expected: [...this.#state.expected, ...expected] });
    void this.#run((answer) => {
      if (answer.status === "loading") return;
      // A directory that could not be read again is still shown as it was.
      const told = answer.status === "failed" ? { failure: answer.failure } : answer;
      this.#publish({ ...told, refreshing: false, expected: NONE });
    });
  }

  /** Leaves: the service stops listing. */
  stop(): void {
    this.#current?.abort();
    this.#current = undefined;
    if (this.#state.refreshing) this.#publish({ refreshing: false, expected: NONE });
  }

  /** Follows one stream; `take` gets all of what is known after each message. */
  async #run(take: (state: Partial<ListingState>) => void): Promise<void> {
    const attempt = new AbortController();
    this.#current = attempt;
    const rows: Row[] = [];
    let path: SitePath | undefined;
    let isFile = false;
    try {
      const location = locationOf(this.place.site, this.place.path);
      for await (const message of this.#client.listDirectory({ location }, { signal: attempt.signal })) {
        if (attempt.signal.aborted) return;
        if (message.failure) {
          const { failure } = message;
          take({
            status: SIGN_IN_REASONS.has(failure.reason) ? "signedOut" : "failed",
            failure: explainFailure(failure),
          });
          return;
        }
        for (const entry of message.entries) rows.push(rowOf(entry));
        // Bytes that are no text are known from the request; the answer only shows them.
        path ??= this.place.path.raw ? this.place.path : pathOf(message.path);
        isFile = message.kind !== EntryKind.UNSPECIFIED && message.kind !== EntryKind.DIRECTORY;
        take({ status: message.last ? "complete" : "loading", rows, count: rows.length, path, isFile });
        if (message.last) return;
      }
      // A stream that ends without its last message was cut off: what came is not all of it.
      if (!attempt.signal.aborted) take({ status: "failed", failure: CUT_OFF });
    } catch (error) {
      if (attempt.signal.aborted) return;
      take(this.#failed(describe(error)));
    } finally {
      attempt.abort();
      if (this.#current === attempt) this.#current = undefined;
    }
  }

  #failed(problem: Problem): Partial<ListingState> {
    return {
      status: SIGN_IN_REASONS.has(problem.reason) ? "signedOut" : "failed",
      failure: explainProblem(problem),
    };
  }

  #publish(changes: Partial<ListingState>): void {
    this.#state = { ...this.#state, ...changes };
    for (const listener of this.#listeners) listener();
  }
}
