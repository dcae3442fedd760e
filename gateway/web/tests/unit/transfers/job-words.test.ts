import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { JobState, WaitingReasonSchema } from "../../../src/gen/wherry/queue/v1/job_service_pb";
import { FailureSchema } from "../../../src/gen/wherry/type/v1/entry_pb";
import { estimate, shownEstimate, withSample } from "../../../src/transfers/eta";
import { type JobModel, jobModel } from "../../../src/transfers/model";
import { amountText, jobTitle, remainingText, waitingText } from "../../../src/transfers/phrases";
import { words } from "../../../src/words";
import { type JobInit, job } from "../../fakes/jobs";

const GB = 1_000_000_000;
const rates = (...all: readonly number[]) => all.map((bytesPerSecond, atMs) => ({ atMs, bytesPerSecond }));

function model(init: JobInit, seen: readonly number[] = []): JobModel {
  return jobModel({ job: job("a", init), arrivals: new Map(), samples: rates(...seen) });
}

describe("V11: what is left is said as an interval", () => {
  test("from the slower to the faster of the rates seen", () => {
    const left = estimate(600, rates(10, 10, 5, 2, 10), 0);
    expect(left).toEqual({ fastestS: 60, slowestS: 120 });
  });

  test("with the average since the start among them", () => {
    expect(estimate(600, rates(10), 2)?.slowestS).toBe(300);
  });

  test("without an upper end where it stood still for a good part of the time", () => {
    expect(estimate(600, rates(0, 0, 10, 10), 0)).toEqual({ fastestS: 60, slowestS: undefined });
  });

  test("and not at all where nothing has moved", () => {
    expect(estimate(600, rates(0, 0), 0)).toBeUndefined();
    expect(estimate(600, [], 0)).toBeUndefined();
  });

  test.each([
    [3, 4, { from: 0, to: 5, unit: "s" }],
    [31, 44, { from: 30, to: 45, unit: "s" }],
    [121, 230, { from: 2, to: 4, unit: "min" }],
    [3_600, 7_300, { from: 1, to: 3, unit: "h" }],
    [90_000, 260_000, { from: 1, to: 4, unit: "d" }],
  ])("from %i to %i s it is rounded outwards", (fastestS, slowestS, shown) => {
    expect(shownEstimate({ fastestS, slowestS })).toEqual(shown);
  });

  test("only the last minute counts", () => {
    const samples = withSample([...rates(1), { atMs: 30_000, bytesPerSecond: 2 }], { atMs: 61_000, bytesPerSecond: 3 });
    expect(samples.map(({ bytesPerSecond }) => bytesPerSecond)).toEqual([2, 3]);
  });

  test("in words", () => {
    const text = (fastestS: number, slowestS: number | undefined) => remainingText({ fastestS, slowestS });
    expect(text(121, 230)).toBe("2–4 min left");
    expect(text(120, 120)).toBe("about 2 min left");
    expect(text(1, 4)).toBe("a few seconds left");
    expect(text(600, undefined)).toBe("at least 10 min left");
    expect(remainingText("open")).toBe("? left");
    expect(remainingText(undefined)).toBe("");
  });
});

describe("V11: a job in the tray", () => {
  const progress = {
    filesTotal: 14n,
    filesDone: 12n,
    bytesTotal: BigInt(10 * GB),
    bytesDone: BigInt(4 * GB),
    bytesMoving: BigInt(2 * GB),
    tasksRunning: 1n,
    bytesPerSecond: GB,
  };

  test("counts what is moving into what is done", () => {
    const running = model({ progress }, [GB]);
    expect(running.fraction).toBeCloseTo(0.6);
    expect(amountText(running)).toEqual({ done: "6.0 GB", rest: " of 10.0 GB", files: "12/14 files" });
    expect(running.remaining).toEqual({ fastestS: 4, slowestS: 4 });
  });

  test("promises nothing while folders are still being looked through", () => {
    const expanding = model({ state: JobState.EXPANDING, progress }, [GB]);
    expect(expanding).toMatchObject({ growing: true, remaining: "open" });
    expect(amountText(expanding).rest).toContain("found so far");
  });

  test("of empty files goes by their number", () => {
    expect(model({ progress: { filesTotal: 4n, filesDone: 1n } }).fraction).toBe(0.25);
  });

  test("is named after the first thing that it copies", () => {
    expect(jobTitle(model({ to: ["/to/raw"] }))).toBe("raw");
    expect(jobTitle(model({ to: ["/to/raw", "/to/b", "/to/c"] }))).toBe("raw and 2 more");
    expect(jobTitle(model({ to: ["/to/raw", "/to/b"], more: { itemCount: 1000n } }))).toBe("raw and 999 more");
  });

  test("that does something else says what, at its one site", () => {
    const target = { site: "sites/a", path: "/x/new" };
    const other = model({ more: { operation: { case: "makeDirectory", value: { target } } } });
    expect(jobTitle(other)).toBe("New folder new");
    expect(other).toMatchObject({ from: "sites/a", to: undefined });
  });

  test("has words for every state", () => {
    const states = Object.values(JobState).filter((state) => typeof state === "number");
    const said = states.map((state) => words.transfers.states[model({ state }).state]);
    expect(new Set(said).size).toBe(states.length);
    expect(said).not.toContain(undefined);
  });

  test("says why it waits, and where to sign in", () => {
    const waiting = (reason: string, site = "") =>
      waitingText(
        model({
          state: reason === "SIGN_IN_REQUIRED" ? JobState.WAITING_FOR_SIGN_IN : JobState.QUEUED,
          more: { waitingReason: create(WaitingReasonSchema, { reason, message: "its own words", site }) },
        }),
        () => "City HPC",
      );
    expect(waiting("SIGN_IN_REQUIRED", "sites/c")).toContain("Sign in to City HPC");
    expect(waiting("SIGN_IN_REQUIRED")).toContain("one of its sites");
    const known = ["NO_WORKER", "IN_LINE", "LINK_LIMIT", "BACK_OFF"].map((reason) => waiting(reason));
    expect(new Set(known).size).toBe(4);
    expect(waiting("SOMETHING_NEW")).toBe("its own words");
  });

  test("that has ended has neither a rate nor a rest, and shows its failure", () => {
    const failure = create(FailureSchema, { reason: "CHECKSUM_MISMATCH", message: "They differ." });
    const failed = model({ state: JobState.FAILED, progress, more: { failure } }, [GB]);
    expect(failed).toMatchObject({ ended: true, moving: false, bytesPerSecond: 0, remaining: undefined });
    expect(failed.failure?.message).toBe("They differ.");
    expect(model({ state: JobState.SUCCEEDED }).fraction).toBe(1);
  });
});
