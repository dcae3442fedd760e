/** A job as a line of the tray. Pure; the words for it are in `words.ts`. */
import { lastName } from "../files/path";
import { type Job, JobState } from "../gen/wherry/queue/v1/job_service_pb";
import type { Failure, Location } from "../gen/wherry/type/v1/entry_pb";
import { type Estimate, estimate, type RateSample } from "./eta";
import { isEnded, type WatchedJob } from "./store";

export type Operation = "copy" | "remove" | "makeDirectory" | "rename" | "other";

/** The state in the page's own words: stable, for styles and tests. */
export type StateName =
  | "unknown"
  | "queued"
  | "expanding"
  | "running"
  | "paused"
  | "waiting-for-sign-in"
  | "cancelling"
  | "cancelled"
  | "succeeded"
  | "partially-failed"
  | "failed";

export interface JobModel {
  /** `jobs/{job}` */
  readonly name: string;
  readonly operation: Operation;
  /** The first thing that it is about, and how many more there are. */
  readonly subject: string;
  readonly more: number;
  /** `sites/{site}`; `to` only where it goes somewhere else. */
  readonly from: string;
  readonly to: string | undefined;
  readonly state: StateName;
  readonly ended: boolean;
  /** 0 to 1. */
  readonly fraction: number;
  /** Whether the totals still grow, so that a share of them says little. */
  readonly growing: boolean;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly filesDone: number;
  readonly filesTotal: number;
  readonly filesFailed: number;
  /** Whether it is moving bytes just now. */
  readonly moving: boolean;
  readonly bytesPerSecond: number;
  /** `"open"`: it cannot be said yet. Undefined where there is nothing to say. */
  readonly remaining: Estimate | "open" | undefined;
  readonly waiting: Waiting | undefined;
  readonly failure: Failure | undefined;
}

export interface Waiting {
  readonly reason: string;
  readonly message: string;
  /** `sites/{site}`, or empty. */
  readonly site: string;
}

export function jobModel({ job, samples }: WatchedJob): JobModel {
  const { operation, locations, from, to } = whatOf(job);
  const progress = job.progress;
  const ended = isEnded(job);
  const state = STATES[job.state] ?? "unknown";
  const bytesTotal = Number(progress?.bytesTotal ?? 0n);
  const settled = Number((progress?.bytesDone ?? 0n) + (progress?.bytesMoving ?? 0n));
  const first = locations[0];
  return {
    name: job.name,
    operation,
    subject: first
      ? lastName({ text: first.path, raw: first.rawPath.length > 0 ? first.rawPath : undefined })
      : job.name,
    // In a stream of many jobs each shows only its first few items.
    more: Math.max(0, Number(job.itemCount) - 1, locations.length - 1),
    from,
    to: to === from ? undefined : to,
    state,
    ended,
    fraction: fractionOf(job),
    growing: job.state === JobState.EXPANDING,
    bytesDone: bytesTotal > 0 ? Math.min(settled, bytesTotal) : settled,
    bytesTotal,
    filesDone: Number((progress?.filesDone ?? 0n) + (progress?.filesLanded ?? 0n)),
    filesTotal: Number(progress?.filesTotal ?? 0n),
    filesFailed: Number(progress?.filesFailed ?? 0n),
    moving: !ended && Number(progress?.tasksRunning ?? 0n) > 0,
    bytesPerSecond: ended ? 0 : (progress?.bytesPerSecond ?? 0),
    remaining: remainingOf(job, samples),
    waiting: job.waitingReason && !ended ? job.waitingReason : undefined,
    failure: job.failure,
  };
}

/** How much of a job is behind it, 0 to 1: by bytes, or by files where they are all empty. */
export function fractionOf(job: Job): number {
  if (job.state === JobState.SUCCEEDED) return 1;
  const progress = job.progress;
  if (!progress) return 0;
  const bytes = Number(progress.bytesDone + progress.bytesMoving + progress.bytesFailed);
  if (progress.bytesTotal > 0n) return Math.min(1, bytes / Number(progress.bytesTotal));
  if (progress.filesTotal > 0n) {
    const files = Number(progress.filesDone + progress.filesLanded + progress.filesFailed);
    return Math.min(1, files / Number(progress.filesTotal));
  }
  return 0;
}

function remainingOf(job: Job, samples: readonly RateSample[]): Estimate | "open" | undefined {
  if (job.state === JobState.EXPANDING) return "open";
  if (job.state !== JobState.RUNNING || !job.progress) return undefined;
  const { bytesTotal, bytesDone, bytesMoving, bytesFailed, averageBytesPerSecond } = job.progress;
  if (bytesTotal === 0n) return "open";
  const left = Number(bytesTotal - bytesDone - bytesMoving - bytesFailed);
  return estimate(left, samples, averageBytesPerSecond) ?? "open";
}

interface What {
  readonly operation: Operation;
  readonly locations: readonly Location[];
  readonly from: string;
  readonly to: string;
}

function whatOf({ operation }: Job): What {
  switch (operation.case) {
    case "copy": {
      const { items } = operation.value;
      const sources = items.map((item) => item.source).filter((source) => source !== undefined);
      return { ...between("copy", sources), to: items[0]?.destination?.site ?? "" };
    }
    case "remove":
      return between("remove", operation.value.targets);
    case "makeDirectory":
      return between("makeDirectory", operation.value.target ? [operation.value.target] : []);
    case "rename":
      return between("rename", operation.value.source ? [operation.value.source] : []);
    default:
      return between("other", []);
  }
}

function between(operation: Operation, locations: readonly Location[]): What {
  const site = locations[0]?.site ?? "";
  return { operation, locations, from: site, to: site };
}

const STATES: Readonly<Record<JobState, StateName>> = {
  [JobState.UNSPECIFIED]: "unknown",
  [JobState.QUEUED]: "queued",
  [JobState.EXPANDING]: "expanding",
  [JobState.RUNNING]: "running",
  [JobState.PAUSED]: "paused",
  [JobState.WAITING_FOR_SIGN_IN]: "waiting-for-sign-in",
  [JobState.CANCELLING]: "cancelling",
  [JobState.CANCELLED]: "cancelled",
  [JobState.SUCCEEDED]: "succeeded",
  [JobState.PARTIALLY_FAILED]: "partially-failed",
  [JobState.FAILED]: "failed",
};
