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
}

export const PACE: Pace = { pausesMs: [250, 1000, 2000, 4000, 8000, 15_000], silenceMs: 60_000 };

/** Another attempt would be answered alike. */
const FOR_GOOD = new Set([Code.Unauthenticated, Code.PermissionDenied, Code.Unimplemented]);

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
      const { heard, refused } = await this.#watch(signal);
      if (signal.aborted) return;
      if (refused) {
        this.#running = undefined;
        this.#store.setConnection("refused");
        return;
      }
      failures = heard ? 0 : failures + 1;
      // A replica that goes sends its callers away; the first attempt goes to another one, and nobody need know.
      if (failures > 0) this.#store.setConnection("lost");
      await this.#pause(this.#pace.pausesMs[Math.min(failures, this.#pace.pausesMs.length - 1)] ?? 0);
    }
  }

  /** Follows one stream to its end. */
  async #watch(signal: AbortSignal): Promise<{ readonly heard: boolean; readonly refused: boolean }> {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    signal.addEventListener("abort", abort);
    let silence = setTimeout(abort, this.#pace.silenceMs);
    let heard = false;
    try {
      for await (const message of this.#client.watchJobs({}, { signal: attempt.signal })) {
        clearTimeout(silence);
        silence = setTimeout(abort, this.#pace.silenceMs);
        const before = heard ? [] : this.#store.unfinished();
        this.#store.apply(message.jobs, Date.now());
        if (!heard) {
          heard = true;
          this.#store.setConnection("live");
          const told = new Set(message.jobs.map((job) => job.name));
          void this.#catchUp(
            before.filter((name) => !told.has(name)),
            attempt.signal,
          );
        }
      }
      return { heard, refused: false };
    } catch (error) {
      return { heard, refused: FOR_GOOD.has(ConnectError.from(error).code) };
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", abort);
    }
  }

  /** Asks for jobs that ended while nobody listened, and that are too old to be told of again. */
  async #catchUp(names: readonly string[], signal: AbortSignal): Promise<void> {
    for (const name of names) {
      try {
        this.#store.apply([await this.#client.getJob({ name }, { signal })], Date.now());
      } catch (error) {
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
