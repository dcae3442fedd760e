/** The user service, a site service and a queue, as a browser with cookies meets them behind the gateway. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type Interceptor, type Transport } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb";
import { JobSchema, JobService } from "../../src/gen/wherry/queue/v1/job_service_pb";
import { SiteService } from "../../src/gen/wherry/site/v1/site_service_pb";
import { SessionService, UserSchema, UserService } from "../../src/gen/wherry/user/v1/user_service_pb";

export const ALICE = create(UserSchema, { name: "users/1", email: "alice@example.org", displayName: "Alice" });

export function refusal(code: Code, reason: string, metadata: Record<string, string> = {}): ConnectError {
  const info = { reason, domain: "wherry", metadata };
  return new ConnectError("the service's words", code, undefined, [{ desc: ErrorInfoSchema, value: info }]);
}

/** What `fetch` does where nobody listens. */
export function broken(): ConnectError {
  return new ConnectError("Failed to fetch", Code.Unknown, undefined, undefined, new TypeError("Failed to fetch"));
}

/** The services, and the cookies of one browser. */
export class FakeServices {
  accessTtlMs = 600_000;
  /** The access cookie and when it ends; the refresh cookie's number. */
  access: { endsMs: number } | undefined;
  refresh: number | undefined;
  /** The one refresh token that is good; any other ends the session. */
  good = 0;
  sessionEnded = false;
  away = new Set<"user" | "site" | "queue" | "gateway">();
  calls: string[] = [];
  /** What a renewal waits for before its answer goes out. */
  beforeRefreshAnswers: () => Promise<void> = () => Promise.resolve();
  /** How streams of jobs end after their first message. */
  streamEnds: ConnectError | undefined;

  /** A browser with a session that began a moment ago. */
  signedIn(): this {
    this.#issue();
    return this;
  }

  count(method: string): number {
    return this.calls.filter((call) => call === method).length;
  }

  transport(interceptors: Interceptor[] = []): Transport {
    return createRouterTransport(
      (router) => {
        router.service(UserService, {
          getUser: () => {
            this.#enter("user", "GetUser");
            this.#authorise();
            return ALICE;
          },
        });
        router.service(SessionService, {
          createSession: (request) => {
            this.#enter("user", "CreateSession");
            if (request.password !== "right") throw refusal(Code.Unauthenticated, "SIGN_IN_REFUSED");
            this.sessionEnded = false;
            return { user: ALICE, tokens: this.#issue() };
          },
          refreshSession: async () => {
            this.#enter("user", "RefreshSession");
            const given = this.refresh;
            if (given !== this.good || this.sessionEnded) this.sessionEnded = true;
            const tokens = this.sessionEnded || given === undefined ? undefined : this.#issue();
            await this.beforeRefreshAnswers();
            if (!tokens) throw refusal(Code.Unauthenticated, "REFRESH_TOKEN_INVALID");
            return { tokens };
          },
          deleteSession: () => {
            this.#enter("user", "DeleteSession");
            this.#authorise();
            this.sessionEnded = true;
            this.access = undefined;
            this.refresh = undefined;
            return {};
          },
        });
        router.service(SiteService, {
          listSites: () => {
            this.#enter("site", "ListSites");
            this.#authorise();
            return { sites: [] };
          },
        });
        const services = this;
        router.service(JobService, {
          listJobs: () => {
            this.#enter("queue", "ListJobs");
            this.#authorise();
            return { jobs: [] };
          },
          async *watchJobs() {
            services.#enter("queue", "WatchJobs");
            services.#authorise();
            yield { jobs: [create(JobSchema, { name: "jobs/1" })] };
            if (services.streamEnds) throw services.streamEnds;
          },
        });
      },
      { transport: { interceptors: [...interceptors, this.#network()] } },
    );
  }

  /** Innermost: what is thrown there has not come over a wire. */
  #network(): Interceptor {
    return (next) => (request) => {
      if (this.away.has("gateway")) throw broken();
      return next(request);
    };
  }

  #enter(service: "user" | "site" | "queue", method: string): void {
    this.calls.push(method);
    if (this.away.has(service)) throw refusal(Code.Unavailable, "SERVICE_UNAVAILABLE", { service });
  }

  #authorise(): void {
    if (!this.access || this.access.endsMs <= Date.now()) throw refusal(Code.Unauthenticated, "TOKEN_MISSING");
    if (this.sessionEnded) throw refusal(Code.Unauthenticated, "SESSION_ENDED");
  }

  #issue() {
    this.good += 1;
    this.refresh = this.good;
    this.access = { endsMs: Date.now() + this.accessTtlMs };
    return { accessExpireTime: timestampFromMs(this.access.endsMs) };
  }
}
