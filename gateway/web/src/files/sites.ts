/** The sites that one sees, and one's sign-ins there. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type QueryClient, useQuery } from "@tanstack/react-query";
import { siteSessions, sites } from "../api";
import { CreateSiteSessionRequestSchema, type Site, type SiteSession } from "../gen/wherry/site/v1/site_service_pb";
import { siteId } from "./places";

const SITES = ["sites"] as const;
const SESSIONS = ["siteSessions"] as const;
const ME = "users/me";
const PAGE_SIZE = 1000;

export type SessionsBySite = ReadonlyMap<string, SiteSession>;

export function useSites() {
  return useQuery({ queryKey: SITES, queryFn: ({ signal }) => allSites(signal), staleTime: 60_000 });
}

/** Live sessions by the site's name. */
export function useSiteSessions() {
  return useQuery({ queryKey: SESSIONS, queryFn: ({ signal }) => allSessions(signal), staleTime: 30_000 });
}

async function allSites(signal: AbortSignal): Promise<readonly Site[]> {
  const all: Site[] = [];
  let pageToken = "";
  do {
    const page = await sites.listSites({ pageSize: PAGE_SIZE, pageToken }, { signal });
    all.push(...page.sites);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return all.sort((one, other) => titleOf(one).localeCompare(titleOf(other)));
}

async function allSessions(signal: AbortSignal): Promise<SessionsBySite> {
  const { siteSessions: all } = await siteSessions.listSiteSessions({ parent: ME }, { signal });
  return new Map(all.map((session) => [session.site, session]));
}

export interface SiteSignIn {
  /** `sites/{site}` */
  readonly site: string;
  readonly username: string;
  readonly password: string;
  readonly lifetimeS: number;
}

/** Signs in at a site. The password is in the request and nowhere else; in particular in no cache of calls. */
export async function signInAt(client: QueryClient, signIn: SiteSignIn): Promise<SiteSession> {
  const { site, username, password, lifetimeS } = signIn;
  const lifetime = durationFromMs(lifetimeS * 1000);
  const request = create(CreateSiteSessionRequestSchema, { parent: ME, site, username, password, lifetime });
  const call = siteSessions.createSiteSession(request);
  try {
    const session = await call;
    client.setQueryData<SessionsBySite>(SESSIONS, (known) => new Map(known).set(site, session));
    return session;
  } finally {
    request.password = "";
  }
}

/** Signs out of a site; that one was not signed in there is as good. */
export async function signOutAt(client: QueryClient, site: string): Promise<void> {
  await siteSessions.deleteSiteSession({ name: `${ME}/siteSessions/${siteId(site)}` });
  client.setQueryData<SessionsBySite>(SESSIONS, (known) => {
    const left = new Map(known);
    left.delete(site);
    return left;
  });
}

/** Asks anew which sign-ins there are: an answer has shown that what we know is old. */
export function forgetSessions(client: QueryClient): void {
  void client.invalidateQueries({ queryKey: SESSIONS });
}

export function titleOf(site: Site): string {
  return site.title || siteId(site.name);
}

/** When a session ends, in milliseconds since the epoch. */
export function endsMs(session: SiteSession): number {
  return session.expireTime ? timestampMs(session.expireTime) : 0;
}
