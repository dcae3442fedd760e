/** What a failed call means to the person in front of the page. */
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb";
import { words } from "./words";

/** Who answers calls: the three services, and the gateway in front of them. */
export type Service = "gateway" | "user" | "site" | "queue";

/** A failure, ready to be shown. */
export interface Problem {
  /** Upper-snake constant, as `SIGN_IN_REFUSED`; a status code's name where the answer has none. */
  readonly reason: string;
  /** What happened, in a sentence. */
  readonly message: string;
  /** What the reader can do about it. */
  readonly help?: string;
  /** The service that is away, if that is what is wrong. */
  readonly service?: Service;
  /** What is wrong with which field of the request; paths as in the contracts. */
  readonly fields: Readonly<Record<string, string>>;
  /** What else the service told, as `site` or `retry_after_s`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Whether the same call may work later. */
  readonly retryable: boolean;
}

/** Reasons of UNAVAILABLE by which a service says that it answers and can do no more. */
const OWN_TROUBLE = new Set(["DATABASE_UNAVAILABLE", "KEYS_UNAVAILABLE"]);
const RETRYABLE = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Aborted, Code.ResourceExhausted]);

/** Says what an error means. Takes whatever was thrown. */
export function describe(error: unknown): Problem {
  const failed = ConnectError.from(error);
  const info = failed.findDetails(ErrorInfoSchema)[0];
  const fields: Record<string, string> = {};
  for (const detail of failed.findDetails(BadRequestSchema))
    for (const violation of detail.fieldViolations) fields[violation.field] = violation.description;
  const lost = isConnectionLost(failed);
  const service = lost ? "gateway" : serviceAway(failed);
  const problem = {
    reason: info?.reason ?? (lost ? "CONNECTION_LOST" : constantName(failed.code)),
    fields,
    metadata: info?.metadata ?? {},
    retryable: lost || RETRYABLE.has(failed.code),
  };
  if (service === "gateway") return { ...problem, service, message: words.failure.gatewayAway };
  if (service)
    return { ...problem, service, message: words.failure.serviceAway(service), help: words.failure.tryLater };
  return { ...problem, message: message(failed, problem.reason) };
}

/** Whether the error says that who is asking is not signed in, or no longer. */
export function isUnauthenticated(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.Unauthenticated;
}

/** Whether a call was given up on purpose, because nobody waits for it any more. */
export function isCancelled(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Canceled;
}

/**
 * Which service a failed call shows to be away; undefined if it was answered.
 *
 * @param called the service that the call was for.
 */
export function awayAfter(error: unknown, called: Service): Service | undefined {
  const problem = describe(error);
  return OWN_TROUBLE.has(problem.reason) ? called : problem.service;
}

/** Whether the connection broke or was never there: an error that no server worded. */
function isConnectionLost(failed: ConnectError): boolean {
  return failed.code === Code.Unknown && failed.details.length === 0 && isOfTheNetwork(failed);
}

/** A broken fetch is a TypeError; a stream that stops without its end is a text, of the library's. */
function isOfTheNetwork(failed: ConnectError): boolean {
  return failed.cause instanceof TypeError || typeof failed.cause === "string";
}

/** The service that an error says is away; undefined if it says something else. */
function serviceAway(failed: ConnectError): Service | undefined {
  if (failed.code !== Code.Unavailable) return undefined;
  const info = failed.findDetails(ErrorInfoSchema)[0];
  if (!info) return "gateway";
  const named = info.metadata.service;
  const known = named === "user" || named === "site" || named === "queue";
  return info.reason === "SERVICE_UNAVAILABLE" && known ? named : undefined;
}

function message(failed: ConnectError, reason: string): string {
  switch (reason) {
    case "TOKEN_MISSING":
    case "TOKEN_INVALID":
    case "SESSION_ENDED":
    case "REFRESH_TOKEN_INVALID":
      return words.failure.signInAgain;
    case "DEADLINE_EXCEEDED":
      return words.failure.deadline;
    case "CANCELED":
      return words.failure.cancelled;
    case "ORIGIN_REFUSED":
      return words.failure.originRefused;
    case "RESOURCE_EXHAUSTED":
      return failed.rawMessage || words.failure.tooMany;
    default:
      return failed.details.length > 0 && failed.rawMessage ? failed.rawMessage : words.failure.unknown;
  }
}

function constantName(code: Code): string {
  return (Code[code] ?? "Unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
