/**
 * Keeps one stream of all jobs open and the store up to date.
 *
 * A stream that breaks off, ends or falls silent is opened again, with growing pauses; what it sends first makes up for
 * what was missed, and jobs that it no longer speaks of are asked for one by one.
 */
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { JobService } from "../gen/wherry/queue/v1/job_service_pb";
import type { JobStore } from "./store";

export type JobClient = Pick<Client<typeof JobService>, "watchJobs" | "getJob">;

export interface Pace {
  /** Pauses before one attempt after another, in milliseconds; the last one is kept. */
  readonly pausesMs: readonly number[];
  /** A stream that has not said anything for so long is dead: the service speaks at least every 30 s. */
  readonly silenceMs: number;
  /** A stream that spoke and lived for so long has worked: the pauses start over. */
  readonly provenMs: number;
}

export const PACE: Pace = {
  pausesMs: [250, 1000, 2000, 4000, 8000, 15_000],
  silenceMs: 60_000,
  provenMs: 10_000,
};

/** Another attempt would be answered alike. */
const FOR_GOOD = new Set([Code.Unauthenticated, Code.PermissionDenied, Code.Unimplemented]);

/** How a stream ended. */
interface Ending {
  /** Whether it worked for a while, and did not break as soon as it was open. */
  readonly proven: boolean;
  readonly refused: boolean;
}

export class JobStream {
  readonly #client: JobClient;
  readonly #store: JobStore;
  readonly #pace: Pace;
  #running: AbortController | undefined;
  #wake: (() => void) | undefined;

  constructor(client: JobClient, store: JobStore, pace: Pace = PACE) {
    this.#client = client;
    this.#store = store;
    this.#pace = pace;
  }

  start(): void {
    if (this.#running) return;
    this.#running = new AbortController();
    void this.#run(this.#running.signal);
  }

  stop(): void {
    this.#running?.abort();
    this.#running = undefined;
    this.#wake?.();
  }

  /** Ends a pause between two attempts: the network is back, or somebody pressed the button. */
  tryNow(): void {
    if (this.#running) this.#wake?.();
    else this.start();
  }

  async #run(signal: AbortSignal): Promise<void> {
    this.#store.setConnection("connecting");
    for (let failures = 0; !signal.aborted; ) {
      const { proven, refused } = await this.#watch(signal);
      if (signal.aborted) return;
      if (refused) {
        this.#running = undefined;
        this.#store.setConnection("refused");
        return;
      }
      failures = proven ? 0 : failures + 1;
      // A replica that goes sends its callers away; the first attempt goes to another one, and nobody need know.
      if (failures > 0) this.#store.setConnection("lost");
      await this.#pause(this.#pace.pausesMs[Math.min(failures, this.#pace.pausesMs.length - 1)] ?? 0);
    }
  }

  /** Follows one stream to its end. */
  async #watch(signal: AbortSignal): Promise<Ending> {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    signal.addEventListener("abort", abort);
    let silence = setTimeout(abort, this.#pace.silenceMs);
    let heardAtMs: number | undefined;
    let news = false;
    /** The unfinished jobs that the first look has not told of yet; undefined once it is whole. */
    let untold: Set<string> | undefined;
    const ending = (refused: boolean): Ending => {
      const lived = heardAtMs !== undefined && performance.now() - heardAtMs >= this.#pace.provenMs;
      return { proven: news || lived, refused };
    };
    try {
      for await (const message of this.#client.watchJobs({}, { signal: attempt.signal })) {
        if (attempt.signal.aborted) break;
        clearTimeout(silence);
        silence = setTimeout(abort, this.#pace.silenceMs);
        if (heardAtMs === undefined) {
          heardAtMs = performance.now();
          untold = new Set(this.#store.unfinished());
          this.#store.setConnection("live");
        } else if (!untold) news = true;
        this.#store.apply(message.jobs, Date.now());
        if (!untold) continue;
        for (const job of message.jobs) untold.delete(job.name);
        if (!message.caughtUp) continue;
        this.#store.caughtUp();
        void this.#catchUp([...untold], attempt.signal);
        untold = undefined;
      }
      return ending(false);
    } catch (error) {
      const { code } = ConnectError.from(error);
      // A token may run out while the stream is open: opening it again renews the session, or ends it.
      const expired = code === Code.Unauthenticated && heardAtMs !== undefined;
      return ending(FOR_GOOD.has(code) && !expired);
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", abort);
      abort(); // what is still being asked for, the next stream asks for again
    }
  }

  /** Asks for jobs that ended while nobody listened, and that are too old to be told of again. */
  async #catchUp(names: readonly string[], signal: AbortSignal): Promise<void> {
    for (const name of names) {
      try {
        const job = await this.#client.getJob({ name }, { signal });
        if (signal.aborted) return;
        this.#store.apply([job], Date.now());
      } catch (error) {
        if (signal.aborted) return;
        if (ConnectError.from(error).code === Code.NotFound) this.#store.remove(name);
        else return; // the stream will break as well, and the next one catches up
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    const spread = ms * (0.75 + Math.random() / 2);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, spread);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}
