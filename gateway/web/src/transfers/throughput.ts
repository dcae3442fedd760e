// The rate of all jobs together over the last two minutes, for the chart.

const SPAN_S = 120;

/** Columns as the chart wants them: seconds since the epoch, and bytes a second (null: not known, the stream was down). */
export type Series = readonly [number[], (number | null)[]];

export class Throughput {
  readonly #times: number[] = [];
  readonly #rates: (number | null)[] = [];

  /** Adds a measurement; `null` leaves a gap. */
  add(atMs: number, bytesPerSecond: number | null): void {
    const atS = atMs / 1000;
    const last = this.#times.at(-1);
    if (last !== undefined && atS <= last) return;
    this.#times.push(atS);
    this.#rates.push(bytesPerSecond);
    const kept = this.#times.findIndex((time) => time >= atS - SPAN_S);
    this.#times.splice(0, kept);
    this.#rates.splice(0, kept);
  }

  get series(): Series {
    return [this.#times, this.#rates];
  }

  clear(): void {
    this.#times.length = 0;
    this.#rates.length = 0;
  }
}

/** The limits of the chart's time axis: always two minutes, the newest at the right. */
export function timeRange(nowMs: number): [number, number] {
  return [nowMs / 1000 - SPAN_S, nowMs / 1000];
}
