import { Code, createClient } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { JobService } from "../../src/gen/wherry/queue/v1/job_service_pb";
import { SiteService } from "../../src/gen/wherry/site/v1/site_service_pb";
import { UserService } from "../../src/gen/wherry/user/v1/user_service_pb";
import { renewing } from "../../src/renewing";
import { Session } from "../../src/session";
import { FakeBrowser } from "../fakes/record";
import { FakeServices, refusal } from "../fakes/services";

const MINUTE_MS = 60_000;
let services: FakeServices;
let browser: FakeBrowser;
let opened: Session[];

function openTab() {
  const session = new Session(services.transport(), browser.tab());
  opened.push(session);
  const transport = services.transport([renewing(session)]);
  return {
    session,
    users: createClient(UserService, transport),
    sites: createClient(SiteService, transport),
    jobs: createClient(JobService, transport),
  };
}

async function startedTab() {
  const tab = openTab();
  await tab.session.start();
  return tab;
}

/** Waits for what is under way, without time passing. */
const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => {
  vi.useFakeTimers();
  services = new FakeServices();
  browser = new FakeBrowser();
  opened = [];
});

afterEach(() => {
  for (const session of opened) session.stop();
  vi.useRealTimers();
});

describe("finding out who is there", () => {
  test("a first visitor is shown the sign-in, without a call that needs a token", async () => {
    const { session } = await startedTab();
    expect(session.state).toEqual({ kind: "signed-out", ended: false });
    expect(services.calls).toEqual(["RefreshSession"]);
  });

  test("a reload within the access token's life asks who it is and renews nothing", async () => {
    services.signedIn();
    await startedTab();
    services.calls = [];
    const { session } = await startedTab();
    expect(session.state).toMatchObject({ kind: "signed-in", user: { email: "alice@example.org" } });
    expect(services.calls).toEqual(["GetUser"]);
  });

  test("a reload after the access token's end renews first", async () => {
    services.signedIn();
    (await startedTab()).session.stop();
    vi.advanceTimersByTime(services.accessTtlMs + 1);
    services.calls = [];
    const { session } = await startedTab();
    expect(session.state.kind).toBe("signed-in");
    expect(services.calls).toEqual(["RefreshSession", "GetUser"]);
  });

  test("a browser that has lost its notes goes by its cookies", async () => {
    services.signedIn();
    const { session } = await startedTab();
    expect(session.state.kind).toBe("signed-in");
  });

  test("where the user service is away nobody is signed out, and it is asked again by itself", async () => {
    services.signedIn();
    services.away.add("user");
    const { session } = await startedTab();
    expect(session.state).toMatchObject({ kind: "away", problem: { service: "user" } });
    services.away.clear();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(session.state.kind).toBe("signed-in");
  });

  test("where the gateway is away nobody is signed out either", async () => {
    services.signedIn();
    services.away.add("gateway");
    const { session } = await startedTab();
    expect(session.state).toMatchObject({ kind: "away", problem: { service: "gateway" } });
    services.away.clear();
    await session.retry();
    expect(session.state.kind).toBe("signed-in");
  });

  test("a session that has ended meanwhile leads to the sign-in, which says so", async () => {
    services.signedIn();
    (await startedTab()).session.stop();
    services.sessionEnded = true;
    const { session } = await startedTab();
    expect(session.state).toEqual({ kind: "signed-out", ended: true });
  });
});

describe("renewing", () => {
  test("many calls refused at once make one renewal, and all of them succeed", async () => {
    services.signedIn();
    const { session, sites } = await startedTab();
    services.access = undefined;
    services.calls = [];
    await Promise.all(Array.from({ length: 10 }, () => sites.listSites({})));
    expect(services.count("RefreshSession")).toBe(1);
    expect(services.count("ListSites")).toBe(20);
    expect(session.state.kind).toBe("signed-in");
  });

  test("calls refused in two tabs make one renewal", async () => {
    services.signedIn();
    const [one, two] = [await startedTab(), await startedTab()];
    services.access = undefined;
    services.calls = [];
    await Promise.all([one.sites.listSites({}), two.sites.listSites({}), two.jobs.listJobs({})]);
    expect(services.count("RefreshSession")).toBe(1);
  });

  test("a stream is renewed and opened again before its first message", async () => {
    services.signedIn();
    const { jobs } = await startedTab();
    services.access = undefined;
    const names: string[] = [];
    for await (const message of jobs.watchJobs({})) names.push(...message.jobs.map((job) => job.name));
    expect(names).toEqual(["jobs/1"]);
    expect(services.count("WatchJobs")).toBe(2);
  });

  test("happens before the access token's end, without a call that is refused", async () => {
    services.signedIn();
    await startedTab();
    services.calls = [];
    await vi.advanceTimersByTimeAsync(services.accessTtlMs - MINUTE_MS);
    expect(services.calls).toEqual(["RefreshSession"]);
    await vi.advanceTimersByTimeAsync(10 * services.accessTtlMs);
    expect(services.sessionEnded).toBe(false);
  });

  test("in time, in three tabs, uses each refresh token once", async () => {
    services.signedIn();
    await Promise.all([startedTab(), startedTab(), startedTab()]);
    services.calls = [];
    await vi.advanceTimersByTimeAsync(services.accessTtlMs);
    expect(services.count("RefreshSession")).toBe(1);
    expect(services.sessionEnded).toBe(false);
  });

  test("fails with the service away: the call fails, nobody is signed out, and it works again afterwards", async () => {
    services.signedIn();
    const { session, sites } = await startedTab();
    services.access = undefined;
    services.away.add("user");
    await expect(sites.listSites({})).rejects.toMatchObject({ rawMessage: "the service's words" });
    expect(session.state.kind).toBe("signed-in");
    services.away.clear();
    await expect(sites.listSites({})).resolves.toMatchObject({ sites: [] });
  });

  test("is tried again by itself where the service was away when it was due", async () => {
    services.signedIn();
    await startedTab();
    services.away.add("user");
    await vi.advanceTimersByTimeAsync(services.accessTtlMs - MINUTE_MS);
    services.away.clear();
    services.calls = [];
    await vi.advanceTimersByTimeAsync(10_000);
    expect(services.count("RefreshSession")).toBe(1);
  });

  test("refused ends the session in all tabs", async () => {
    services.signedIn();
    const [one, two] = [await startedTab(), await startedTab()];
    services.access = undefined;
    services.refresh = -1;
    await expect(one.sites.listSites({})).rejects.toThrow();
    await settle();
    expect(one.session.state).toEqual({ kind: "signed-out", ended: true });
    expect(two.session.state).toEqual({ kind: "signed-out", ended: true });
  });

  test("is not tried where the session has ended", async () => {
    services.signedIn();
    const { session, sites } = await startedTab();
    services.sessionEnded = true;
    services.calls = [];
    await expect(sites.listSites({})).rejects.toThrow();
    expect(session.state).toEqual({ kind: "signed-out", ended: true });
    expect(services.count("RefreshSession")).toBe(0);
  });

  test("that was cut short by a reload is waited for, not sent a second time with the same token", async () => {
    services.signedIn();
    const first = await startedTab();
    const old = services.refresh;
    // The request is on its way; the new cookie comes only after the tab is gone.
    services.beforeRefreshAnswers = () => new Promise(() => undefined);
    services.access = undefined;
    void first.sites.listSites({}).catch(() => undefined);
    await settle();
    first.session.stop();
    browser.releaseLock();
    const fresh = { refresh: services.refresh, access: services.access };
    services.refresh = old;
    services.access = undefined;
    services.beforeRefreshAnswers = () => Promise.resolve();
    const second = openTab();
    const starting = second.session.start();
    await vi.advanceTimersByTimeAsync(500);
    Object.assign(services, fresh);
    await vi.advanceTimersByTimeAsync(5_000);
    await starting;
    expect(services.sessionEnded).toBe(false);
    expect(second.session.state.kind).toBe("signed-in");
  });

  test("does not wait for hours where this computer's clock was set back since one was sent", async () => {
    services.signedIn();
    const { session, sites } = await startedTab();
    if (!browser.record) throw new Error("no record");
    browser.record = { ...browser.record, renewalSentMs: Date.now() + 3_600_000 };
    services.access = undefined;
    const listed = sites.listSites({});
    await vi.advanceTimersByTimeAsync(3_000);
    await expect(listed).resolves.toMatchObject({ sites: [] });
    expect(session.state.kind).toBe("signed-in");
  });

  test("leaves nothing open of a stream that is read no further", async () => {
    const closed = vi.fn();
    async function* told() {
      try {
        yield "one";
        yield "two";
      } finally {
        closed();
      }
    }
    const next = async () => ({ stream: true, message: told() });
    const request = { stream: true, method: JobService.method.watchJobs, message: (async function* () {})() };
    const call = renewing({ attempt: (made) => made() })(next as never);
    const { message } = (await call(request as never)) as unknown as { message: AsyncIterable<string> };
    for await (const _ of message) break;
    expect(closed).toHaveBeenCalledOnce();
  });

  test("does not go round in circles where this computer's clock is ahead by hours", async () => {
    services.signedIn();
    services.accessTtlMs = -3_600_000;
    await startedTab();
    services.calls = [];
    await vi.advanceTimersByTimeAsync(10 * MINUTE_MS);
    expect(services.count("RefreshSession")).toBeLessThanOrEqual(11);
  });
});

describe("signing in and out", () => {
  test("signing in in one tab signs the others in", async () => {
    const [one, two] = [await startedTab(), await startedTab()];
    await one.session.signIn("alice@example.org", "right");
    await vi.waitFor(() => expect(two.session.state.kind).toBe("signed-in"));
    expect(one.session.state.kind).toBe("signed-in");
  });

  test("a wrong password says so and leaves everything as it was", async () => {
    const { session } = await startedTab();
    await expect(session.signIn("alice@example.org", "wrong")).rejects.toThrow();
    expect(session.state).toEqual({ kind: "signed-out", ended: false });
  });

  test("signing out in one tab signs the others out, and what is kept of the person goes", async () => {
    services.signedIn();
    const [one, two] = [await startedTab(), await startedTab()];
    const left = vi.fn();
    two.session.onLeave(left);
    await one.session.signOut();
    await settle();
    expect(one.session.state).toEqual({ kind: "signed-out", ended: false });
    expect(two.session.state).toEqual({ kind: "signed-out", ended: false });
    expect(left).toHaveBeenCalledOnce();
    expect(services.access).toBeUndefined();
  });

  test("signing out after the access token's end renews for it", async () => {
    services.signedIn();
    const { session } = await startedTab();
    services.access = undefined;
    await session.signOut();
    expect(services.sessionEnded).toBe(true);
    expect(session.state).toEqual({ kind: "signed-out", ended: false });
  });

  test("signing out with the service away fails, and one is still signed in", async () => {
    services.signedIn();
    const { session } = await startedTab();
    services.away.add("user");
    await expect(session.signOut()).rejects.toThrow();
    expect(session.state.kind).toBe("signed-in");
  });

  test("a stream of the session before, that ends late, does not end the new one", async () => {
    services.signedIn();
    const { session } = await startedTab();
    const before = session.mark();
    await session.signOut();
    await session.signIn("alice@example.org", "right");
    expect(await session.recover(before, "SESSION_ENDED")).toBe(false);
    expect(session.state.kind).toBe("signed-in");
  });

  test("a refused call is not repeated under the sign-in that has come meanwhile", async () => {
    services.signedIn();
    const [one, two] = [await startedTab(), await startedTab()];
    let calls = 0;
    const refused = one.session.attempt(async () => {
      calls += 1;
      await two.session.signOut();
      await two.session.signIn("alice@example.org", "right");
      throw refusal(Code.Unauthenticated, "TOKEN_INVALID");
    });
    await expect(refused).rejects.toThrow();
    await vi.waitFor(() => expect(one.session.state.kind).toBe("signed-in"));
    expect(calls).toBe(1);
    expect(two.session.state.kind).toBe("signed-in");
  });

  test("a renewal that waited for somebody's sign-in is not made for them, and its call is not repeated", async () => {
    services.signedIn();
    const [one, two] = [await startedTab(), await startedTab()];
    services.access = undefined;
    services.calls = [];
    const signingIn = two.session.signIn("alice@example.org", "right");
    const call = vi.fn(() => Promise.reject(refusal(Code.Unauthenticated, "TOKEN_INVALID")));
    await expect(one.session.attempt(call)).rejects.toThrow();
    await signingIn;
    await vi.waitFor(() => expect(one.session.state.kind).toBe("signed-in"));
    expect(call).toHaveBeenCalledOnce();
    expect(services.count("RefreshSession")).toBe(0);
  });

  test("a question who is there that is overtaken by a sign-in does not sign that one out", async () => {
    services.signedIn();
    (await startedTab()).session.stop();
    const two = await startedTab();
    vi.advanceTimersByTime(services.accessTtlMs + 1);
    const signingIn = two.session.signIn("alice@example.org", "right");
    const one = await startedTab();
    await signingIn;
    expect(one.session.state.kind).toBe("signed-in");
    expect(two.session.state.kind).toBe("signed-in");
  });
});
