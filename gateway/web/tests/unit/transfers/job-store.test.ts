import { beforeEach, describe, expect, test, vi } from "vitest";
import { pathOf } from "../../../src/files/path";
import { JobState } from "../../../src/gen/wherry/queue/v1/job_service_pb";
import { arrivalsOf, touches } from "../../../src/transfers/destinations";
import { JobStore, type WatchedJob } from "../../../src/transfers/store";
import { job } from "../../fakes/jobs";

let store: JobStore;
const ids = () => store.read().list.map(({ job: { name } }) => name.replace("jobs/", ""));

beforeEach(() => {
  store = new JobStore();
});

describe("V11: the jobs that are shown", () => {
  test("are the unfinished ones, newest first, and then the others by their end", () => {
    store.apply(
      [
        job("old", { createdMs: 1 }),
        job("done", { state: JobState.SUCCEEDED, createdMs: 9, endedMs: 10 }),
        job("new", { createdMs: 5, state: JobState.QUEUED }),
        job("failed", { state: JobState.FAILED, createdMs: 2, endedMs: 20 }),
      ],
      0,
    );
    expect(ids()).toEqual(["new", "old", "failed", "done"]);
  });

  test("keep their place in the list's memory while nothing is new of them", () => {
    store.apply([job("a"), job("b")], 0);
    const before = store.read().list.find(({ job: { name } }) => name === "jobs/a");
    store.apply([job("b", { progress: { bytesDone: 1n } })], 1);
    expect(store.read().list).toContain(before);
  });

  test("add up to one rate, to which ended ones add nothing", () => {
    store.apply([job("a", { progress: { bytesPerSecond: 2 } }), job("b", { progress: { bytesPerSecond: 3 } })], 0);
    expect(store.read().bytesPerSecond).toBe(5);
    store.apply([job("b", { state: JobState.CANCELLED, progress: { bytesPerSecond: 3 } })], 1);
    expect(store.read().bytesPerSecond).toBe(2);
  });

  test("do not come to life again through an older word of them", () => {
    store.apply([job("a", { state: JobState.CANCELLED })], 0);
    store.apply([job("a", { state: JobState.RUNNING })], 1);
    expect(store.read().list[0]?.job.state).toBe(JobState.CANCELLED);
  });

  test("begin with the answer to their creation, unless the stream was quicker", () => {
    store.add(job("a", { state: JobState.QUEUED }), 0);
    expect(ids()).toEqual(["a"]);
    store.apply([job("a", { state: JobState.RUNNING })], 1);
    store.add(job("a", { state: JobState.QUEUED }), 2);
    expect(store.read().list[0]?.job.state).toBe(JobState.RUNNING);
  });

  test("await all that the answer to their creation names, though the stream was quicker and names some of it", () => {
    store.apply([job("a", { to: ["/to/x"], more: { itemCount: 2n } })], 0);
    store.add(job("a", { to: ["/to/x", "/to/y"], more: { itemCount: 2n } }), 1);
    const arrivals = store.read().list[0]?.arrivals.get("sites/b\n/to");
    expect(arrivals?.map(({ name }) => name)).toEqual(["x", "y"]);
  });

  test("are forgotten with everything else", () => {
    store.apply([job("a")], 0);
    store.measure(1000);
    store.clear();
    expect(ids()).toEqual([]);
    expect(store.throughput.series[0]).toEqual([]);
  });
});

describe("V13: the end of a job", () => {
  const ended = vi.fn<(watched: WatchedJob) => void>();

  beforeEach(() => {
    ended.mockClear();
    store.onEnded(ended);
  });

  test("is told once", () => {
    store.apply([job("a")], 0);
    store.apply([job("a", { state: JobState.SUCCEEDED })], 1);
    store.apply([job("a", { state: JobState.SUCCEEDED })], 2);
    expect(ended).toHaveBeenCalledOnce();
  });

  test("is not told of jobs that had ended before one looked", () => {
    store.apply([job("a", { state: JobState.SUCCEEDED })], 0);
    expect(ended).not.toHaveBeenCalled();
  });

  test("is told of a job that began and ended between two messages", () => {
    store.apply([], 0);
    store.caughtUp();
    store.apply([job("a", { state: JobState.SUCCEEDED })], 1);
    expect(ended).toHaveBeenCalledOnce();
  });

  test("is not told of old jobs where the first look comes in several messages, with answers in between", () => {
    store.apply([job("a", { state: JobState.SUCCEEDED })], 0);
    store.add(job("b"), 1);
    store.apply([job("c", { state: JobState.CANCELLED })], 2);
    store.apply([job("d", { state: JobState.FAILED })], 3);
    expect(ended).not.toHaveBeenCalled();
  });

  test("concerns the directories that it wrote to, and those within what it copied", () => {
    const copy = job("a", { to: ["/to/raw", "/else/x"] });
    const at = (path: string, site = "sites/b") => touches(copy, { site, path: pathOf(path) });
    expect([at("/to"), at("/else"), at("/to/raw"), at("/to/raw/deep")]).toEqual([true, true, true, true]);
    expect([at("/"), at("/to/other"), at("/to", "sites/a")]).toEqual([false, false, false]);
  });

  test("that names more than it shows may have written anywhere at its sites", () => {
    const copy = job("a", { to: ["/to/x"], more: { itemCount: 20n } });
    expect(touches(copy, { site: "sites/b", path: pathOf("/elsewhere") })).toBe(true);
    expect(touches(copy, { site: "sites/c", path: pathOf("/elsewhere") })).toBe(false);
  });

  test("is awaited under the names that it will make", () => {
    const arrivals = arrivalsOf(job("a", { to: ["/to/x", "/to/y", "/else/z"] }));
    expect(arrivals.get("sites/b\n/to")?.map(({ name }) => name)).toEqual(["x", "y"]);
    expect(arrivals.get("sites/b\n/else")?.map(({ name }) => name)).toEqual(["z"]);
  });
});

describe("V11: the throughput", () => {
  test("has a gap where the stream was away, and two minutes at most", () => {
    store.setConnection("live");
    store.apply([job("a", { progress: { bytesPerSecond: 7 } })], 0);
    store.measure(1_000);
    store.setConnection("lost");
    store.measure(2_000);
    expect(store.throughput.series).toEqual([
      [1, 2],
      [7, null],
    ]);
    store.measure(122_500);
    expect(store.throughput.series[0]).toEqual([122.5]);
  });
});
