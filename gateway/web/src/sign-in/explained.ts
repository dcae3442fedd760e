/** Why a sign-in was refused, in words. */
import { describe } from "../failure";
import { words } from "../words";

/** What to say, and which field it is about, if one. */
export interface Refusal {
  readonly text: string;
  readonly field?: "email" | "password";
}

export function explained(error: unknown): Refusal {
  const problem = describe(error);
  switch (problem.reason) {
    case "SIGN_IN_REFUSED":
      return { text: words.signIn.refused };
    case "EMAIL_NOT_VERIFIED":
      return { text: words.signIn.notVerified };
    case "SIGN_IN_THROTTLED":
    case "SIGN_IN_RATE_LIMITED":
    case "RESOURCE_EXHAUSTED":
      return { text: throttled(Number(problem.metadata.retry_after_s)) };
  }
  for (const field of ["email", "password"] as const) {
    const complaint = problem.fields[field];
    if (complaint) return { text: complaint, field };
  }
  return { text: [problem.message, problem.help].filter(Boolean).join(" ") };
}

function throttled(waitS: number): string {
  return waitS > 0 ? words.signIn.throttled(spoken(waitS)) : words.signIn.throttledUnknown;
}

/** A time to wait, never too short. */
function spoken(seconds: number): string {
  if (seconds < 90) return words.duration.seconds(Math.ceil(seconds));
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? words.duration.minutes(minutes) : words.duration.hours(Math.ceil(minutes / 60));
}
