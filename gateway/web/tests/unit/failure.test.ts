import { Code, ConnectError } from "@connectrpc/connect";
import { expect, describe as group, test } from "vitest";
import { awayAfter, describe } from "../../src/failure";
import { BadRequestSchema, ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb";
import { explained } from "../../src/sign-in/explained";
import { words } from "../../src/words";
import { broken, refusal } from "../fakes/services";

group("what a failure means", () => {
  test("a service that the gateway cannot reach is named", () => {
    const problem = describe(refusal(Code.Unavailable, "SERVICE_UNAVAILABLE", { service: "site" }));
    expect(problem).toMatchObject({ reason: "SERVICE_UNAVAILABLE", service: "site", retryable: true });
    expect(problem.message).toContain("site service");
  });

  test("a broken connection is the gateway's, and worth another try", () => {
    expect(describe(broken())).toMatchObject({ reason: "CONNECTION_LOST", service: "gateway", retryable: true });
  });

  test("a stream that stops without its end is a broken connection too", () => {
    expect(describe(ConnectError.from("missing trailer")).reason).toBe("CONNECTION_LOST");
  });

  test("a service without its database is away itself, and says so in its own words", () => {
    const error = refusal(Code.Unavailable, "DATABASE_UNAVAILABLE");
    expect(awayAfter(error, "queue")).toBe("queue");
    expect(describe(error)).toMatchObject({ message: "the service's words", retryable: true });
    expect(describe(error).service).toBeUndefined();
  });

  test("something else that is unavailable is no service of ours", () => {
    expect(awayAfter(refusal(Code.Unavailable, "SITE_UNREACHABLE"), "site")).toBeUndefined();
  });

  test("fields are named with what is wrong with them", () => {
    const error = new ConnectError("x", Code.InvalidArgument, undefined, [
      { desc: ErrorInfoSchema, value: { reason: "INVALID_FIELDS", domain: "wherry" } },
      { desc: BadRequestSchema, value: { fieldViolations: [{ field: "email", description: "is no address" }] } },
    ]);
    expect(describe(error)).toMatchObject({ fields: { email: "is no address" }, retryable: false });
  });

  test("an error of the page's own shows none of its inner words", () => {
    expect(describe(new Error("x is not a function")).message).toBe(words.failure.unknown);
  });
});

group("why a sign-in was refused", () => {
  test.each([
    [refusal(Code.Unauthenticated, "SIGN_IN_REFUSED"), words.signIn.refused],
    [refusal(Code.FailedPrecondition, "EMAIL_NOT_VERIFIED"), words.signIn.notVerified],
    [
      refusal(Code.ResourceExhausted, "SIGN_IN_THROTTLED", { retry_after_s: "30" }),
      "Too many tries. Wait 30 seconds, then try again.",
    ],
    [
      refusal(Code.ResourceExhausted, "SIGN_IN_THROTTLED", { retry_after_s: "100" }),
      "Too many tries. Wait 2 minutes, then try again.",
    ],
    [refusal(Code.ResourceExhausted, "SIGN_IN_RATE_LIMITED"), words.signIn.throttledUnknown],
    [broken(), words.failure.gatewayAway],
  ])("each reason has its own words (%#)", (error, text) => {
    expect(explained(error).text).toBe(text);
  });

  test("the user service being away is told from a wrong password", () => {
    const error = refusal(Code.Unavailable, "SERVICE_UNAVAILABLE", { service: "user" });
    expect(explained(error).text).toContain("The user service is not reachable");
  });
});
