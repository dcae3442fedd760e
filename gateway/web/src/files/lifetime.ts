/** How long one may ask to stay signed in at a site. */

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

export interface Lifetime {
  readonly seconds: number;
  readonly label: string;
}

/** No limit of a site is known beforehand: a site that gives less says so, and then the page does. */
export const LIFETIMES: readonly Lifetime[] = [
  { seconds: 4 * HOUR_S, label: "4 hours" },
  { seconds: 12 * HOUR_S, label: "12 hours" },
  { seconds: DAY_S, label: "1 day" },
  { seconds: 3 * DAY_S, label: "3 days" },
  { seconds: 7 * DAY_S, label: "7 days" },
];

export const USUAL_LIFETIME_S = 12 * HOUR_S;

/** Less than this left is shown in amber, with a way to renew. */
export const SHORT_S = 2 * HOUR_S;

export function lifetimeLabel(seconds: number): string {
  return LIFETIMES.find((choice) => choice.seconds === seconds)?.label ?? `${Math.round(seconds / HOUR_S)} hours`;
}
