/** A failure as it is shown: what happened, who can put it right, and what the reader can do. */
import type { Problem } from "../failure";
import { type Failure, Party } from "../gen/wherry/type/v1/entry_pb";
import { words } from "../words";

export interface Explained {
  /** Upper-snake constant. */
  readonly reason: string;
  readonly what: string;
  readonly who?: string | undefined;
  readonly help?: string | undefined;
  /** Whether the same may work later without anybody doing anything. */
  readonly retryable: boolean;
}

/** What a service tells of a site's failure. `atOneSite`: only one site is concerned, so that it need not be told apart. */
export function explainFailure(failure: Failure, atOneSite = true): Explained {
  return {
    reason: failure.reason,
    what: failure.message,
    who: whoOf(failure.party, atOneSite),
    help: failure.help || undefined,
    retryable: failure.retryable,
  };
}

/** What a failed call means. */
export function explainProblem(problem: Problem): Explained {
  return { reason: problem.reason, what: problem.message, help: problem.help, retryable: problem.retryable };
}

function whoOf(party: Party, atOneSite: boolean): string | undefined {
  const { who } = words.files;
  switch (party) {
    case Party.USER:
      return who.user;
    case Party.SOURCE_SITE:
      return atOneSite ? who.site : who.sourceSite;
    case Party.DESTINATION_SITE:
      return atOneSite ? who.site : who.destinationSite;
    case Party.OPERATOR:
      return who.operator;
    case Party.NETWORK:
      return who.network;
    default:
      return undefined;
  }
}
