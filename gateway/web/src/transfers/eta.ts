// How long a job will take yet, as an interval: the rate of the last minute was not one number, so neither is the answer.

export interface Estimate {
  /** Seconds at the faster and at the slower of the rates seen; `slowestS` is undefined where it may be any time. */
  readonly fastestS: number;
  readonly slowestS: number | undefined;
}

/** Bytes a second, measured at a time. */
export interface RateSample {
  readonly atMs: number;
  readonly bytesPerSecond: number;
}

const WINDOW_MS = 60_000;
const MOST_SAMPLES = 240;

/** The samples of the last minute with one more. */
export function withSample(samples: readonly RateSample[], sample: RateSample): readonly RateSample[] {
  const from = sample.atMs - WINDOW_MS;
  return [...samples.filter((old) => old.atMs >= from), sample].slice(-MOST_SAMPLES);
}

/**
 * Estimates from what is left and how fast it went.
 *
 * @param averageBytesPerSecond since the job's start; 0 where unknown.
 * @returns undefined where nothing has moved, so that nothing can be said.
 */
export function estimate(
  remainingBytes: number,
  samples: readonly RateSample[],
  averageBytesPerSecond: number,
): Estimate | undefined {
  if (remainingBytes <= 0) return { fastestS: 0, slowestS: 0 };
  const rates = samples.map((sample) => sample.bytesPerSecond);
  if (averageBytesPerSecond > 0) rates.push(averageBytesPerSecond);
  const best = Math.max(0, ...rates);
  if (best === 0) return undefined;
  rates.sort((one, other) => one - other);
  const slow = quantile(rates, 0.2);
  const fast = quantile(rates, 0.8) || best;
  return { fastestS: remainingBytes / fast, slowestS: slow > 0 ? remainingBytes / slow : undefined };
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.round((sorted.length - 1) * share)] ?? 0;
}

type Unit = "s" | "min" | "h" | "d";

export interface ShownEstimate {
  readonly from: number;
  /** Undefined where there is no upper bound. */
  readonly to: number | undefined;
  readonly unit: Unit;
}

interface Scale {
  readonly unit: Unit;
  readonly seconds: number;
  readonly step: number;
}

function scaleFor(seconds: number): Scale {
  if (seconds < 90) return { unit: "s", seconds: 1, step: 5 };
  if (seconds < 90 * 60) return { unit: "min", seconds: 60, step: 1 };
  if (seconds < 36 * 3600) return { unit: "h", seconds: 3600, step: 1 };
  return { unit: "d", seconds: 86_400, step: 1 };
}

/** The estimate in the unit that fits it, rounded outwards, so that it promises no more than is known. */
export function shownEstimate({ fastestS, slowestS }: Estimate): ShownEstimate {
  const { unit, seconds, step } = scaleFor(slowestS ?? fastestS);
  const from = Math.floor(fastestS / seconds / step) * step;
  if (slowestS === undefined) return { from, to: undefined, unit };
  return { from, to: Math.max(Math.ceil(slowestS / seconds / step) * step, step), unit };
}
