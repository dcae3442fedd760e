import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { describe as describeError } from "../../../src/failure";
import { firstSites } from "../../../src/files/first-places";
import { hueOf } from "../../../src/files/hue";
import { explainSignIn } from "../../../src/files/sign-in-failure";
import { initials, shortTitle } from "../../../src/files/titles";
import type { Site } from "../../../src/gen/wherry/site/v1/site_service_pb";
import { refusal } from "../../fakes/services";

const SITE = { title: "City HPC", address: "myproxy.city.example:7512" };

function explained(code: Code, reason: string, metadata: Record<string, string> = {}) {
  return explainSignIn(describeError(refusal(code, reason, metadata)), SITE);
}

describe("V16: a sign-in at a site that does not work", () => {
  const address = "myproxy.city.example:7512";
  const all = [
    explained(Code.FailedPrecondition, "SITE_SIGN_IN_REFUSED"),
    explained(Code.Unavailable, "SITE_UNREACHABLE", { address }),
    explained(Code.FailedPrecondition, "SITE_NOT_TRUSTED", { address, cause: "self-signed certificate" }),
    explained(Code.FailedPrecondition, "SITE_ANSWER_UNUSABLE", { address, cause: "it broke off" }),
    explained(Code.Unavailable, "NAME_SERVICE_UNAVAILABLE", { host: "myproxy.city.example" }),
    explained(Code.PermissionDenied, "ADDRESS_NOT_ALLOWED", { host: "10.0.0.1" }),
    explained(Code.NotFound, "SITE_NOT_FOUND"),
    explained(Code.Unavailable, "SERVICE_UNAVAILABLE", { service: "site" }),
  ];

  test("says another thing for each cause", () => {
    expect(new Set(all.map(({ what }) => what)).size).toBe(all.length);
  });

  test("does not say which of name and password is wrong, and asks for the password again", () => {
    expect(all[0]).toMatchObject({ reason: "SITE_SIGN_IN_REFUSED", field: "password" });
    expect(all[0]?.what).toContain("user name with this password");
  });

  test("says of a server that is not to be trusted that the password was not sent, and why", () => {
    expect(all[2]?.what).toContain("self-signed certificate");
    expect(all[2]?.what).toContain("not sent");
  });

  test("shows an unfit length of time at its field", () => {
    const problem = {
      ...describeError(refusal(Code.InvalidArgument, "INVALID_FIELDS")),
      fields: { lifetime: "too long" },
    };
    expect(explainSignIn(problem, SITE)).toMatchObject({ field: "lifetime" });
  });
});

describe("sites", () => {
  test.each([
    ["Northfield Synchrotron", "Northfield", "NS"],
    ["University of Northfield", "Northfield", "UO"],
    ["City HPC", "City HPC", "CH"],
    ["dls", "dls", "DL"],
  ])("%s is called %s on a button and %s in a mark", (title, short, mark) => {
    expect(shortTitle(title)).toBe(short);
    expect(initials(title)).toBe(mark);
  });

  test("a site has one of eight hues, always the same", () => {
    const hues = Array.from({ length: 200 }, (_, index) => hueOf(`sites/s${index}`));
    expect(new Set(hues)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7]));
    expect(hueOf("sites/s7")).toBe(hues[7]);
  });

  test("panes without a place begin with two different sites, first those where one is signed in", () => {
    const sites = ["a", "b", "c"].map((id) => ({ name: `sites/${id}` })) as Site[];
    const signedIn = (name: string) => name === "sites/c";
    expect(firstSites(sites, signedIn, undefined, undefined)).toEqual(["sites/c", "sites/a"]);
    expect(firstSites(sites, signedIn, "sites/b", undefined)).toEqual([undefined, "sites/c"]);
    expect(firstSites(sites, signedIn, undefined, "sites/c")).toEqual(["sites/a", undefined]);
    expect(firstSites(sites.slice(0, 1), signedIn, undefined, undefined)).toEqual(["sites/a", "sites/a"]);
  });
});
