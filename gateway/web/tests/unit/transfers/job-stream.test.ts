import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Job, JobService, JobState } from "../../../src/gen/wherry/queue/v1/job_service_pb";
import { JobStore } from "../../../src/transfers/store";
import { JobStream } from "../../../src/transfers/stream";
import { job } from "../../fakes/jobs";
import { refusal } from "../../fakes/services";

/** One stream as the queue sees it: the test sends messages down it, and ends it. */
class Wire {
  readonly #queue: (readonly Job[] | ConnectError | undefined)[] = [];
  #wake: () => void = () => undefined;
  signal: AbortSignal | undefined;

  send(...jobs: readonly Job[]): void {
    this.#put(jobs);
  }
  break(error: ConnectError): void {
    this.#put(error);
  }
  end(): void {
    this.#put(undefined);
  }
  #put(item: readonly Job[] | ConnectError | undefined): void {
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
      yield { jobs: [...item] };
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
  const pace = { pausesMs: [100, 1000, 5000], silenceMs: 60_000 };
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
    await pass(0);
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
      await pass(10_000);
      wire(1).send(job("a", { state: JobState.SUCCEEDED }));
      await pass(0);
      expect(store.read().connection).toBe("live");
      expect(states()).toEqual({ "jobs/a": JobState.SUCCEEDED });
    },
  );

  test("is opened again when it ends, and when nothing was heard of it for a minute", async () => {
    const first = await open();
    first.send();
    await pass(0);
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
    await pass(0);
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
    refusals = Array.from({ length: 2 }, () => new ConnectError("x", Code.Unavailable));
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
