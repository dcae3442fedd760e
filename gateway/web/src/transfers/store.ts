/** What is known of the jobs just now. Data only: `stream.ts` feeds it, React reads it. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Job, JobState } from "../gen/wherry/queue/v1/job_service_pb";
import { type Arrivals, arrivalsOf } from "./destinations";
import { type RateSample, withSample } from "./eta";
import { Throughput } from "./throughput";

/** How the stream is: not yet open, open, away and tried again by itself, or given up for good. */
export type Connection = "connecting" | "live" | "lost" | "refused";

/** A job with how fast it went lately; a new object with each news of it, and the same one between. */
export interface WatchedJob {
  readonly job: Job;
  /** Worked out once: what a job is to do never changes. */
  readonly arrivals: Arrivals;
  readonly samples: readonly RateSample[];
}

export interface Jobs {
  /** Unfinished ones first, then by what happened last. */
  readonly list: readonly WatchedJob[];
  readonly connection: Connection;
  /** Bytes a second of all together. */
  readonly bytesPerSecond: number;
  /** Changes with each measurement of the throughput. */
  readonly measured: number;
}

export type JobEnded = (ended: WatchedJob) => void;

const EMPTY: Jobs = { list: [], connection: "connecting", bytesPerSecond: 0, measured: 0 };
const MOST_ENDED = 200;

export class JobStore {
  readonly throughput = new Throughput();
  readonly #jobs = new Map<string, WatchedJob>();
  readonly #listeners = new Set<() => void>();
  readonly #endListeners = new Set<JobEnded>();
  #snapshot = EMPTY;
  /** Whether the stream has told all that there is; what it tells after that is news. */
  #primed = false;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly read = (): Jobs => this.#snapshot;

  /** Calls back for each job that ends from now on, once. */
  onEnded(listener: JobEnded): () => void {
    this.#endListeners.add(listener);
    return () => void this.#endListeners.delete(listener);
  }

  /** Takes jobs as they are now. */
  apply(jobs: readonly Job[], nowMs: number): void {
    const ended: WatchedJob[] = [];
    for (const job of jobs) {
      const known = this.#jobs.get(job.name);
      if (known && isEnded(known.job) && !isEnded(job)) continue; // an older word, from another call
      const arrivals = known?.arrivals ?? arrivalsOf(job);
      const watched = { job, arrivals, samples: samplesOf(job, known?.samples ?? [], nowMs) };
      this.#jobs.set(job.name, watched);
      // One that nobody knew of, after the first look, is one that began and ended in between.
      if (isEnded(job) && (known ? !isEnded(known.job) : this.#primed)) ended.push(watched);
    }
    this.#publish({ list: this.#sorted(), bytesPerSecond: this.#total() });
    for (const watched of ended) for (const listener of this.#endListeners) listener(watched);
  }

  /** Takes the answer to a job's creation; where the stream was quicker, only the items that it has left out. */
  add(job: Job, nowMs: number): void {
    const known = this.#jobs.get(job.name);
    if (known) {
      this.#jobs.set(job.name, { ...known, arrivals: arrivalsOf(job) });
      this.#publish({ list: this.#sorted() });
    } else this.apply([job], nowMs);
  }

  /** Notes that the stream has told all that there was; answers to other calls never say that. */
  caughtUp(): void {
    this.#primed = true;
  }

  /** Forgets a job that is there no more. */
  remove(name: string): void {
    if (this.#jobs.delete(name)) this.#publish({ list: this.#sorted(), bytesPerSecond: this.#total() });
  }

  /** The unfinished jobs, by name. */
  unfinished(): readonly string[] {
    return [...this.#jobs.values()].filter(({ job }) => !isEnded(job)).map(({ job }) => job.name);
  }

  setConnection(connection: Connection): void {
    if (connection !== this.#snapshot.connection) this.#publish({ connection });
  }

  /** Writes the rate of now into the throughput; a gap while the stream is away. */
  measure(nowMs: number): void {
    this.throughput.add(nowMs, this.#snapshot.connection === "live" ? this.#snapshot.bytesPerSecond : null);
    this.#publish({ measured: nowMs });
  }

  /** Forgets everything: somebody else may be reading next. */
  clear(): void {
    this.#jobs.clear();
    this.#primed = false;
    this.throughput.clear();
    this.#publish(EMPTY);
  }

  #publish(changes: Partial<Jobs>): void {
    this.#snapshot = { ...this.#snapshot, ...changes };
    for (const listener of this.#listeners) listener();
  }

  #sorted(): readonly WatchedJob[] {
    const all = [...this.#jobs.values()];
    const open = all.filter(({ job }) => !isEnded(job)).sort(byTime(({ job }) => job.createTime));
    const ended = all.filter(({ job }) => isEnded(job)).sort(byTime(({ job }) => job.endTime ?? job.createTime));
    for (const { job } of ended.splice(MOST_ENDED)) this.#jobs.delete(job.name);
    return [...open, ...ended];
  }

  #total(): number {
    let sum = 0;
    for (const { job } of this.#jobs.values()) if (!isEnded(job)) sum += job.progress?.bytesPerSecond ?? 0;
    return sum;
  }
}

/** Whether nothing happens to the job any more. */
export function isEnded(job: Job): boolean {
  switch (job.state) {
    case JobState.CANCELLED:
    case JobState.SUCCEEDED:
    case JobState.PARTIALLY_FAILED:
    case JobState.FAILED:
      return true;
    default:
      return false;
  }
}

function samplesOf(job: Job, before: readonly RateSample[], nowMs: number): readonly RateSample[] {
  if (isEnded(job) || !job.progress?.tasksRunning) return [];
  return withSample(before, { atMs: nowMs, bytesPerSecond: job.progress.bytesPerSecond });
}

type TimeOf = (watched: WatchedJob) => Job["createTime"];

/** Newest first; the same order for the same times. */
function byTime(time: TimeOf): (one: WatchedJob, other: WatchedJob) => number {
  const ms = (watched: WatchedJob) => {
    const stamp = time(watched);
    return stamp ? timestampMs(stamp) : 0;
  };
  return (one, other) => ms(other) - ms(one) || (one.job.name < other.job.name ? -1 : 1);
}
