/** The browser's session: finding out whether there is one, renewing it in time, signing in and out, in all tabs at once. */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { describe, isUnauthenticated, type Problem } from "./failure";
import {
  SessionService,
  TokenDelivery,
  type Tokens,
  type User,
  UserService,
} from "./gen/wherry/user/v1/user_service_pb";
import type { SessionRecord, SharedRecord } from "./session-record";

/** What is known of who is in front of the page. */
export type SessionState =
  | { readonly kind: "starting" }
  /** Nobody could say: the services are away. `trying` while they are being asked again. */
  | { readonly kind: "away"; readonly problem: Problem; readonly trying: boolean }
  | { readonly kind: "signed-in"; readonly user: User }
  /** `ended` where the session came to its end and nobody signed out. */
  | { readonly kind: "signed-out"; readonly ended: boolean };

/** Which tokens a call went out with. */
export type Mark = Pick<SessionRecord, "signIn" | "renewals"> | undefined;

/** So long before its end a token is renewed, or a fifth of its life if that is less. */
const AHEAD_MS = 60_000;
/** Between two renewals where this computer's clock makes a new token look old. */
const CLOCK_WRONG_MS = 60_000;
const FAILED_MS = 5_000;
/** A renewal whose tab is gone has set its cookies by then, or never will. */
const INTERRUPTED_MS = 3_000;
/** A renewal that is given up may have been granted, and then the session is lost: patience. */
const RENEWAL_TIMEOUT_MS = 60_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;
const CURRENT = "users/me/sessions/current";

/** The session is over; nothing but a new sign-in helps. */
class SessionOver extends Error {}

/** Somebody has signed in since the call went out, perhaps somebody else: nothing of before is to be done in their name. */
class SignedInAnew extends Error {}

export class Session {
  readonly #users: Client<typeof UserService>;
  readonly #sessions: Client<typeof SessionService>;
  readonly #record: SharedRecord;
  readonly #listeners = new Set<() => void>();
  readonly #leavers = new Set<() => void>();
  #state: SessionState = { kind: "starting" };
  #signIn: string | null | undefined;
  #renewal: Promise<void> | undefined;
  #renewTimer: ReturnType<typeof setTimeout> | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #retryMs = FIRST_RETRY_MS;
  #asking: Promise<void> | undefined;
  #unfollow: (() => void) | undefined;

  /**
   * @param bare calls that go as they are: those of the session itself must not wait for the session.
   * @param record what the tabs share.
   */
  constructor(bare: Transport, record: SharedRecord) {
    this.#users = createClient(UserService, bare);
    this.#sessions = createClient(SessionService, bare);
    this.#record = record;
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Calls back after every change of the state; returns how to stop that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back when somebody's session is over in this tab: what is kept of them has to go. */
  onLeave(leaver: () => void): () => void {
    this.#leavers.add(leaver);
    return () => this.#leavers.delete(leaver);
  }

  /** Finds out who is there, and follows the other tabs from then on. */
  start(): Promise<void> {
    this.#unfollow ??= this.#record.follow(() => this.#follow());
    return this.#ask();
  }

  /** Asks at once where nobody could say so far. */
  retry(): Promise<void> {
    return this.#state.kind === "away" ? this.#ask() : Promise.resolve();
  }

  /** Lets go of timers and of the other tabs. */
  stop(): void {
    this.#unfollow?.();
    this.#unfollow = undefined;
    clearTimeout(this.#renewTimer);
    clearTimeout(this.#retryTimer);
  }

  /** Signs in; throws what the service says against it. */
  async signIn(email: string, password: string): Promise<void> {
    const user = await this.#record.exclusively(async () => {
      const answer = await this.#sessions.createSession({ email, password, tokenDelivery: TokenDelivery.COOKIES });
      if (!answer.user) throw new ConnectError("the answer names no user", Code.Internal);
      // Before the next tab's turn: a renewal that waits has to see that the cookies are another session's.
      this.#record.write({ ...unknownRecord(), accessExpiresMs: accessExpires(answer.tokens) });
      return answer.user;
    });
    this.#enter(user);
  }

  /** Signs out here and in all tabs; throws where that could not be done, and one is still signed in then. */
  async signOut(): Promise<void> {
    const mark = this.mark();
    try {
      await this.attempt(() => this.#record.exclusively(() => this.#sessions.deleteSession({ name: CURRENT })));
    } catch (error) {
      const gone = isUnauthenticated(error) || ConnectError.from(error).code === Code.NotFound;
      if (!gone) throw error;
      if (this.#isReplaced(mark)) {
        this.#follow();
        return;
      }
    }
    this.#leave(false);
  }

  /** Which tokens a call that goes out now goes out with. */
  mark(): Mark {
    return this.#record.read();
  }

  /** Makes a call; where it is refused for its token, once more after a renewal. */
  async attempt<T>(call: () => Promise<T>): Promise<T> {
    const mark = this.mark();
    try {
      return await call();
    } catch (error) {
      if (!isUnauthenticated(error) || !(await this.recover(mark, describe(error).reason))) throw error;
    }
    return await call();
  }

  /**
   * Sees to it that calls are accepted again after one was refused. Returns whether it is worth repeating; if not, the
   * session that it was made in is over, or another one has taken its place. Throws where the service that renews is away: then nothing is known, and nobody is signed out.
   *
   * @param mark what the refused call went out with.
   */
  async recover(mark: Mark, reason: string): Promise<boolean> {
    const record = this.#record.read();
    if (record?.signIn === null) {
      this.#follow();
      return false;
    }
    if (this.#isReplaced(mark)) {
      this.#follow();
      return false;
    }
    if (record && record.renewals !== mark?.renewals) return true;
    if (reason === "SESSION_ENDED") {
      this.#leave(true);
      return false;
    }
    try {
      await this.#renew(mark);
      return true;
    } catch (error) {
      if (error instanceof SessionOver) this.#leave(true);
      else if (error instanceof SignedInAnew) this.#follow();
      else throw error;
      return false;
    }
  }

  /** Asks who is there; one question at a time. */
  #ask(): Promise<void> {
    this.#asking ??= this.#askNow().finally(() => {
      this.#asking = undefined;
      this.#follow();
    });
    return this.#asking;
  }

  async #askNow(): Promise<void> {
    clearTimeout(this.#retryTimer);
    if (this.#state.kind === "away") this.#become({ ...this.#state, trying: true });
    const record = this.#record.read();
    if (record?.signIn === null) {
      this.#left(record.ended ?? false);
      return;
    }
    let mark: Mark = record;
    try {
      // Who comes for the first time has no tokens to be refused for.
      if (!record || record.accessExpiresMs <= Date.now()) await this.#renew(record);
      mark = this.mark();
      const user = await this.attempt(() => this.#users.getUser({ name: "users/me" }));
      if (this.#isReplaced(mark)) await this.#askNow();
      else this.#enter(user);
    } catch (error) {
      if (this.#isReplaced(mark)) await this.#askNow();
      else if (error instanceof SessionOver) this.#leave((record?.accessExpiresMs ?? 0) > 0);
      else if (isUnauthenticated(error)) this.#leave(true);
      else this.#retryLater(describe(error));
    }
  }

  #retryLater(problem: Problem): void {
    this.#become({ kind: "away", problem, trying: false });
    this.#retryTimer = setTimeout(() => void this.#ask(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
  }

  /** Renews the tokens unless that has been done since the mark; in one tab at a time, since each works once. */
  #renew(mark: Mark): Promise<void> {
    this.#renewal ??= this.#record
      .exclusively(() => this.#renewNow(mark))
      .finally(() => {
        this.#renewal = undefined;
        this.#schedule();
      });
    return this.#renewal;
  }

  async #renewNow(mark: Mark): Promise<void> {
    let record = this.#record.read();
    if (record?.renewalSentMs !== undefined) {
      // At most so long: after a clock was set back the time noted may lie hours ahead.
      await delay(Math.min(INTERRUPTED_MS, record.renewalSentMs + INTERRUPTED_MS - Date.now()));
      record = this.#record.read();
    }
    if (record?.signIn === null) throw new SessionOver();
    if (this.#isReplaced(mark)) throw new SignedInAnew();
    if (record && record.renewals !== mark?.renewals) return;
    const { renewalSentMs: _, ...before } = record ?? unknownRecord();
    this.#signIn ??= before.signIn;
    this.#record.write({ ...before, renewalSentMs: Date.now() });
    try {
      const answer = await this.#sessions.refreshSession(
        { tokenDelivery: TokenDelivery.COOKIES },
        { timeoutMs: RENEWAL_TIMEOUT_MS },
      );
      this.#record.write({
        ...before,
        renewals: before.renewals + 1,
        accessExpiresMs: accessExpires(answer.tokens),
      });
    } catch (error) {
      this.#record.write(before);
      throw isUnauthenticated(error) ? new SessionOver() : error;
    }
  }

  /** Renews in time, before calls are refused. */
  #schedule(failed = false): void {
    clearTimeout(this.#renewTimer);
    const record = this.#record.read();
    if (this.#state.kind !== "signed-in" || !record) return;
    const rest = record.accessExpiresMs - Date.now();
    const wait = rest > 0 ? rest - Math.min(AHEAD_MS, rest / 5) : CLOCK_WRONG_MS;
    this.#renewTimer = setTimeout(() => void this.#renewAhead(), failed ? Math.min(wait, FAILED_MS) : wait);
  }

  async #renewAhead(): Promise<void> {
    try {
      await this.recover(this.mark(), "");
    } catch {
      // Whoever calls next is told; here it is tried again.
      this.#schedule(true);
    }
  }

  /** Does as another tab has done. */
  #follow(): void {
    const record = this.#record.read();
    if (!record || this.#asking) return;
    if (record.signIn === null) this.#left(record.ended ?? false);
    else if (record.signIn === this.#signIn) this.#schedule();
    else if (this.#state.kind !== "away") {
      // Somebody has signed in meanwhile, perhaps somebody else. (Where the services are away it is asked again anyway.)
      for (const leaver of this.#leavers) leaver();
      this.#become({ kind: "starting" });
      void this.#ask();
    }
  }

  #enter(user: User): void {
    this.#retryMs = FIRST_RETRY_MS;
    this.#signIn = this.#record.read()?.signIn;
    this.#become({ kind: "signed-in", user });
    this.#schedule();
  }

  /** Nobody is signed in any more, in no tab. */
  #leave(ended: boolean): void {
    const record = this.#record.read();
    if (record?.signIn !== null) this.#record.write({ signIn: null, ended, renewals: 0, accessExpiresMs: 0 });
    this.#left(record?.signIn === null ? (record.ended ?? ended) : ended);
  }

  #left(ended: boolean): void {
    this.#signIn = null;
    clearTimeout(this.#renewTimer);
    clearTimeout(this.#retryTimer);
    if (this.#state.kind === "signed-out") return;
    this.#become({ kind: "signed-out", ended });
    for (const leaver of this.#leavers) leaver();
  }

  /** Whether another sign-in has taken the place of the one that a call went out with. */
  #isReplaced(mark: Mark): boolean {
    const signIn = this.#record.read()?.signIn;
    return typeof signIn === "string" && mark !== undefined && signIn !== mark.signIn;
  }

  #become(state: SessionState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}

/** A session that no tab has written down: its cookies are there, and that is all. */
function unknownRecord(): SessionRecord {
  return { signIn: crypto.randomUUID(), renewals: 0, accessExpiresMs: 0 };
}

function accessExpires(tokens: Tokens | undefined): number {
  return tokens?.accessExpireTime ? timestampMs(tokens.accessExpireTime) : 0;
}

function delay(ms: number): Promise<void> {
  return ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : Promise.resolve();
}
