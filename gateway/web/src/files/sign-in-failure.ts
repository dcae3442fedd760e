/** Why a sign-in at a site did not work, each cause told apart, as far as the site itself tells them apart. */
import type { Problem } from "../failure";
import { words } from "../words";

export interface SignInFailure {
  readonly reason: string;
  readonly what: string;
  readonly help?: string | undefined;
  /** The input that is to blame, if one is. */
  readonly field?: SignInField | undefined;
}

export type SignInField = "username" | "password" | "lifetime";

export interface SignInSite {
  readonly title: string;
  /** `host:port` of the server that the password goes to. */
  readonly address: string;
}

const FIELDS: readonly SignInField[] = ["username", "password", "lifetime"];

/** Says what a failed CreateSiteSession means. */
export function explainSignIn(problem: Problem, site: SignInSite): SignInFailure {
  const { reason, metadata } = problem;
  const address = metadata.address ?? site.address;
  const text = words.files.signIn;
  switch (reason) {
    case "SITE_SIGN_IN_REFUSED":
      return { reason, what: text.refused(site.title), help: text.refusedHelp, field: "password" };
    case "SITE_UNREACHABLE":
      return { reason, what: text.unreachable(address), help: text.unreachableHelp(site.title) };
    case "SITE_NOT_TRUSTED":
      return {
        reason,
        what: text.notTrusted(address, site.title, metadata.cause ?? ""),
        help: text.notTrustedHelp(site.title),
      };
    case "SITE_ANSWER_UNUSABLE":
      return { reason, what: text.unusable(address, metadata.cause ?? ""), help: text.unusableHelp(site.title) };
    case "NAME_SERVICE_UNAVAILABLE":
      return { reason, what: text.addressUnknown(metadata.host ?? address), help: words.failure.tryLater };
    case "ADDRESS_NOT_ALLOWED":
      return { reason, what: text.addressNotAllowed(metadata.host ?? address), help: text.operatorHelp };
    case "SITE_NOT_FOUND":
      return { reason, what: text.gone(site.title) };
    default:
      return unfitField(problem) ?? { reason, what: problem.message, help: problem.help };
  }
}

function unfitField(problem: Problem): SignInFailure | undefined {
  const field = FIELDS.find((name) => problem.fields[name] !== undefined);
  const why = field && problem.fields[field];
  if (!field || why === undefined) return undefined;
  const what = field === "lifetime" ? words.files.signIn.lifetimeRefused(why) : why;
  return { reason: problem.reason, what, field };
}
