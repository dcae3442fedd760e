import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type Job,
  JobService,
  JobState,
  WatchJobsResponseSchema,
} from "../../../src/gen/wherry/queue/v1/job_service_pb";
import { JobStore } from "../../../src/transfers/store";
import { type JobClient, JobStream } from "../../../src/transfers/stream";
import { job } from "../../fakes/jobs";
import { refusal } from "../../fakes/services";

interface Said {
  readonly jobs: Job[];
  readonly caughtUp: boolean;
}

/** One stream as the queue sees it: the test sends messages down it, and ends it. */
class Wire {
  readonly #queue: (Said | ConnectError | undefined)[] = [];
  #wake: () => void = () => undefined;
  signal: AbortSignal | undefined;

  send(...jobs: Job[]): void {
    this.#put({ jobs, caughtUp: true });
  }
  /** A part of the first look that is not its last. */
  sendPart(...jobs: Job[]): void {
    this.#put({ jobs, caughtUp: false });
  }
  break(error: ConnectError): void {
    this.#put(error);
  }
  end(): void {
    this.#put(undefined);
  }
  #put(item: Said | ConnectError | undefined): void {
    this.#queue.push(item);
    this.#wake();
  }

  async *read(signal: AbortSignal) {
    this.signal = signal;
    for (;;) {
      while (this.#queue.length === 0 && !signal.aborted) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          signal.addEventListener("abort", () => resolve());
        });
      }
      if (signal.aborted) return;
      const item = this.#queue.shift();
      if (item === undefined) return;
      if (item instanceof ConnectError) throw item;
      yield item;
    }
  }
}

let store: JobStore;
let stream: JobStream;
let wires: Wire[];
/** What attempts meet before they get a stream. */
let refusals: ConnectError[];
let asked: string[];
let known: Map<string, Job>;

beforeEach(() => {
  vi.useFakeTimers();
  wires = [];
  refusals = [];
  asked = [];
  known = new Map();
  store = new JobStore();
  const transport = createRouterTransport(({ service }) =>
    service(JobService, {
      async *watchJobs(_request, context) {
        const refused = refusals.shift();
        if (refused) throw refused;
        const wire = new Wire();
        wires.push(wire);
        yield* wire.read(context.signal);
      },
      getJob(request) {
        asked.push(request.name);
        const found = known.get(request.name);
        if (!found) throw refusal(Code.NotFound, "JOB_NOT_FOUND");
        return found;
      },
    }),
  );
  const pace = { pausesMs: [100, 1000, 5000], silenceMs: 60_000, provenMs: 10_000 };
  stream = new JobStream(createClient(JobService, transport), store, pace);
});

afterEach(() => {
  stream.stop();
  vi.useRealTimers();
});

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const states = () => Object.fromEntries(store.read().list.map(({ job: each }) => [each.name, each.state]));

async function open(): Promise<Wire> {
  stream.start();
  await pass(0);
  return wire(0);
}

function wire(index: number): Wire {
  const found = wires[index];
  if (!found) throw new Error(`stream ${index} was not opened`);
  return found;
}

describe("V25: the stream of jobs", () => {
  test("is live from its first message on, even an empty one", async () => {
    const first = await open();
    expect(store.read().connection).toBe("connecting");
    first.send();
    await pass(0);
    expect(store.read().connection).toBe("live");
  });

  test("is opened again without a word when a service sends its callers elsewhere", async () => {
    const first = await open();
    first.send(job("a"));
    await pass(10_000);
    first.break(new ConnectError("draining", Code.Unavailable));
    await pass(0);
    expect(store.read().connection).toBe("live");
    await pass(200);
    wire(1).send(job("a"));
    await pass(0);
    expect(store.read().connection).toBe("live");
  });

  test.each([Code.Unavailable, Code.Unknown, Code.Internal, Code.DeadlineExceeded])(
    "says that it is lost when that does not help (code %i), tries on, and recovers",
    async (code) => {
      const first = await open();
      first.send(job("a"));
      refusals = [new ConnectError("x", code), new ConnectError("x", code)];
      first.break(new ConnectError("x", code));
      await pass(200);
      expect(store.read().connection).toBe("lost");
      await pass(15_000);
      wire(1).send(job("a", { state: JobState.SUCCEEDED }));
      await pass(0);
      expect(store.read().connection).toBe("live");
      expect(states()).toEqual({ "jobs/a": JobState.SUCCEEDED });
    },
  );

  test("is opened again when it ends, and when nothing was heard of it for a minute", async () => {
    const first = await open();
    first.send();
    await pass(10_000);
    first.end();
    await pass(200);
    wire(1).send();
    await pass(59_000);
    expect(wires).toHaveLength(2);
    await pass(2_000);
    expect(wires).toHaveLength(3);
    expect(wire(1).signal?.aborted).toBe(true);
  });

  test("asks for jobs that ended while nobody listened and that it no longer speaks of", async () => {
    const first = await open();
    first.send(job("gone"), job("ended"), job("on"));
    await pass(10_000);
    known.set("jobs/ended", job("ended", { state: JobState.FAILED }));
    first.end();
    await pass(200);
    wire(1).send(job("on"));
    await pass(0);
    expect(asked.sort()).toEqual(["jobs/ended", "jobs/gone"]);
    expect(states()).toEqual({ "jobs/on": JobState.RUNNING, "jobs/ended": JobState.FAILED });
  });

  test("does not wait out its pause when somebody asks", async () => {
    const first = await open();
    first.send();
    refusals = [new ConnectError("x", Code.Unavailable)];
    first.end();
    await pass(4_000);
    expect(wires).toHaveLength(1);
    stream.tryNow();
    await pass(0);
    expect(wires).toHaveLength(2);
  });

  test("is not tried again where the session is over, until somebody asks", async () => {
    refusals = [refusal(Code.Unauthenticated, "SESSION_ENDED")];
    stream.start();
    await pass(60_000);
    expect(wires).toHaveLength(0);
    expect(store.read().connection).toBe("refused");
    stream.tryNow();
    await pass(0);
    expect(wires).toHaveLength(1);
  });

  test("asks for what is missing only when its first look is whole, however many messages that takes", async () => {
    const first = await open();
    first.send(job("a"), job("b"), job("gone"));
    await pass(10_000);
    first.end();
    await pass(200);
    wire(1).sendPart(job("a"));
    await pass(0);
    expect(asked).toEqual([]);
    wire(1).sendPart();
    wire(1).send(job("b"));
    await pass(0);
    expect(asked).toEqual(["jobs/gone"]);
  });

  test("tells of no end while its first look is not whole", async () => {
    const ended = vi.fn();
    store.onEnded(ended);
    const first = await open();
    first.sendPart(job("a", { state: JobState.SUCCEEDED }));
    first.send(job("b", { state: JobState.SUCCEEDED }));
    await pass(0);
    expect(ended).not.toHaveBeenCalled();
    first.send(job("c", { state: JobState.SUCCEEDED }));
    await pass(0);
    expect(ended).toHaveBeenCalledOnce();
  });

  test("is opened with growing pauses where each one breaks right after its first message", async () => {
    stream.start();
    for (let at = 0; at < 60; at++) {
      await pass(500);
      const last = wires.at(-1);
      if (last?.signal?.aborted) continue;
      last?.send();
      last?.break(new ConnectError("x", Code.Unavailable));
    }
    expect(wires.length).toBeGreaterThan(2);
    expect(wires.length).toBeLessThan(12);
    expect(store.read().connection).toBe("lost");
  });

  test("starts its pauses over once it has told news", async () => {
    const first = await open();
    first.send(job("a"));
    first.send(job("a"));
    first.break(new ConnectError("x", Code.Unavailable));
    await pass(200);
    expect(wires).toHaveLength(2);
  });

  test("is opened again where its token ran out while it was open", async () => {
    const first = await open();
    first.send(job("a"));
    await pass(0);
    first.break(refusal(Code.Unauthenticated, "TOKEN_INVALID"));
    await pass(2_000);
    expect(wires).toHaveLength(2);
    wire(1).send(job("a"));
    await pass(0);
    expect(store.read().connection).toBe("live");
  });

  test("ends where its token ran out and the next attempt is refused", async () => {
    const first = await open();
    first.send(job("a"));
    await pass(0);
    refusals = [refusal(Code.Unauthenticated, "SESSION_ENDED")];
    first.break(refusal(Code.Unauthenticated, "SESSION_ENDED"));
    await pass(60_000);
    expect(wires).toHaveLength(1);
    expect(store.read().connection).toBe("refused");
  });

  test.each(["message", "answer"])("writes nothing after it was closed, though a %s comes late", async (late) => {
    let arrive: () => void = () => undefined;
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    // What has come already is handed out whatever the signal says.
    const client = {
      async *watchJobs() {
        yield create(WatchJobsResponseSchema, { caughtUp: true });
        await arrived;
        if (late === "message") yield create(WatchJobsResponseSchema, { jobs: [job("b")], caughtUp: true });
      },
      getJob: () => arrived.then(() => job("a", { state: JobState.SUCCEEDED })),
    };
    if (late === "answer") store.add(job("a"), 0);
    const closing = new JobStream(client as unknown as JobClient, store);
    closing.start();
    await pass(0);
    closing.stop();
    store.clear();
    arrive();
    await pass(1_000);
    expect(store.read().list).toEqual([]);
  });

  test("is closed when nobody looks any more", async () => {
    const first = await open();
    first.send();
    await pass(0);
    stream.stop();
    await pass(30_000);
    expect(first.signal?.aborted).toBe(true);
    expect(wires).toHaveLength(1);
  });
});
