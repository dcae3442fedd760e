/** A job in words. */

import { shownName } from "../files/shown";
import { bytes, count, plural } from "../format";
import { words } from "../words";
import { type Estimate, shownEstimate } from "./eta";
import type { JobModel } from "./model";

/** `raw`, `raw and 11 more`, `New folder raw`. */
export function jobTitle({ operation, subject, more }: JobModel): string {
  const text = words.transfers;
  const name = more > 0 ? `${shownName(subject)} ${text.more(count(more))}` : shownName(subject);
  return text.subject[operation](name);
}

/** `2–4 min left`, `?`, or nothing. */
export function remainingText(remaining: JobModel["remaining"]): string {
  const text = words.transfers;
  if (remaining === undefined) return "";
  return text.left(remaining === "open" ? text.leftUnknown : estimateText(remaining));
}

function estimateText(estimate: Estimate): string {
  const text = words.transfers;
  const { from, to, unit } = shownEstimate(estimate);
  if (to === undefined) return text.atLeast(`${count(from)} ${unit}`);
  if (from === 0) return unit === "s" && to <= 5 ? text.leftNothing : text.under(`${count(to)} ${unit}`);
  return from === to ? text.about(`${count(to)} ${unit}`) : `${count(from)}–${count(to)} ${unit}`;
}

/** Why a job is not running, or undefined where there is nothing to say. */
export function waitingText(model: JobModel, titleOf: (site: string) => string): string | undefined {
  const { waiting, state } = model;
  const text = words.transfers.waitingFor;
  if (state === "waiting-for-sign-in" || waiting?.reason === "SIGN_IN_REQUIRED") {
    return waiting?.site ? text.signIn(titleOf(waiting.site)) : text.signInSomewhere;
  }
  if (!waiting) return undefined;
  switch (waiting.reason) {
    case "NO_WORKER":
    case "IN_LINE":
    case "LINK_LIMIT":
    case "BACK_OFF":
      return text[waiting.reason];
    default:
      return waiting.message || undefined;
  }
}

export interface AmountText {
  readonly done: string;
  readonly rest: string;
  readonly files: string;
}

/** `13.1 GB`, ` of 18.4 GB`, `12/14 files`. */
export function amountText(model: JobModel): AmountText {
  const text = words.transfers;
  const { bytesDone, bytesTotal, filesDone, filesTotal, filesFailed } = model;
  const files = filesTotal > 1 || filesFailed > 0 ? text.files(count(filesDone), count(filesTotal)) : "";
  if (model.operation === "makeDirectory" || model.operation === "rename") return { done: "", rest: "", files: "" };
  if (model.operation === "remove") return { done: "", rest: "", files };
  if (model.state === "succeeded") {
    return { done: bytes(bytesTotal), rest: "", files: filesTotal > 1 ? plural(filesTotal, text.file) : "" };
  }
  if (bytesTotal === 0 && filesTotal === 0) return { done: "", rest: "", files: "" };
  const rest = model.growing ? text.soFar(bytes(bytesTotal)) : text.ofTotal(bytes(bytesTotal));
  return { done: bytes(bytesDone), rest, files };
}
