import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, type ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, test, vi } from "vitest";
import { Listing } from "../../../src/files/listing";
import { pathOf, pathOfBytes } from "../../../src/files/path";
import {
  FileService,
  type ListDirectoryRequest,
  type ListDirectoryResponseSchema,
} from "../../../src/gen/wherry/queue/v1/file_service_pb";
import { EntryKind, Party } from "../../../src/gen/wherry/type/v1/entry_pb";
import { file, names } from "../../fakes/entries";
import { refusal } from "../../fakes/services";

type Answer = MessageInitShape<typeof ListDirectoryResponseSchema>;
type Answers = (request: ListDirectoryRequest, signal: AbortSignal) => AsyncGenerator<Answer>;

const DIRECTORY = { path: "/home/alice", kind: EntryKind.DIRECTORY };

/** Listings of a place, answered one after the other by what is given; the last one answers all that follow. */
function listing(answers: readonly Answers[], path = pathOf("")) {
  const requests: ListDirectoryRequest[] = [];
  const signals: AbortSignal[] = [];
  const transport = createRouterTransport(({ service }) =>
    service(FileService, {
      listDirectory(request, context) {
        requests.push(request);
        signals.push(context.signal);
        const answer = answers[Math.min(requests.length, answers.length) - 1];
        if (!answer) throw new Error("no answer");
        return answer(request, context.signal);
      },
    }),
  );
  const made = new Listing(createClient(FileService, transport), { site: "sites/a", path });
  return { listing: made, requests, signals, shown: () => names(made.read().rows.slice(0, made.read().count)) };
}

async function* whole(...entries: readonly string[]): AsyncGenerator<Answer> {
  yield { ...DIRECTORY, entries: entries.map((name) => file(name)) };
  yield { ...DIRECTORY, last: true };
}

async function* refused(error: ConnectError): AsyncGenerator<Answer> {
  yield* [];
  throw error;
}

function closedGate() {
  let open: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { gate, release: () => open?.() };
}

describe("V1: a listing", () => {
  test("shows batches as they come, and tells what the default path is", async () => {
    const { gate, release } = closedGate();
    const { listing: made, shown } = listing([
      async function* () {
        yield { ...DIRECTORY, entries: [file("a")] };
        await gate;
        yield { ...DIRECTORY, entries: [file("b")] };
        yield { ...DIRECTORY, last: true };
      },
    ]);
    made.start();
    await vi.waitFor(() => expect(shown()).toEqual(["a"]));
    expect(made.read()).toMatchObject({ status: "loading", path: { text: "/home/alice" } });
    release();
    await vi.waitFor(() => expect(made.read().status).toBe("complete"));
    expect(shown()).toEqual(["a", "b"]);
  });

  test("of a path that is no UTF-8 asks with its bytes and goes by them", async () => {
    const path = pathOfBytes(Uint8Array.of(0x2f, 0xff));
    const { listing: made, requests } = listing([() => whole("a")], path);
    made.start();
    await vi.waitFor(() => expect(made.read().status).toBe("complete"));
    expect(requests[0]?.location?.rawPath).toEqual(path.raw);
    expect(made.read().path).toBe(path);
  });

  test("of a file says so", async () => {
    const { listing: made } = listing([
      async function* () {
        yield { path: "/x", kind: EntryKind.FILE, entries: [file("x")], last: true };
      },
    ]);
    made.start();
    await vi.waitFor(() => expect(made.read()).toMatchObject({ status: "complete", isFile: true }));
  });

  test("that the site refuses says what happened and who can put it right", async () => {
    const { listing: made } = listing([
      async function* () {
        const failure = { reason: "PERMISSION_DENIED", message: "No.", party: Party.USER, help: "Ask." };
        yield { last: true, path: "/x", failure };
      },
    ]);
    made.start();
    await vi.waitFor(() => expect(made.read().status).toBe("failed"));
    expect(made.read().failure).toMatchObject({ reason: "PERMISSION_DENIED", what: "No.", help: "Ask." });
    expect(made.read().failure?.who).toBeTruthy();
  });

  test("that stops without its last message is not taken for the whole", async () => {
    const { listing: made } = listing([
      async function* () {
        yield { ...DIRECTORY, entries: [file("a")] };
      },
    ]);
    made.start();
    await vi.waitFor(() => expect(made.read()).toMatchObject({ status: "failed", failure: { retryable: true } }));
  });

  test("is not asked for any more when its pane is left", async () => {
    const {
      listing: made,
      signals,
      shown,
    } = listing([
      async function* (_request, signal) {
        yield { ...DIRECTORY, entries: [file("a")] };
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        yield { ...DIRECTORY, entries: [file("b")] };
      },
    ]);
    made.start();
    await vi.waitFor(() => expect(shown()).toEqual(["a"]));
    made.stop();
    await vi.waitFor(() => expect(signals[0]?.aborted).toBe(true));
    expect(made.read().status).toBe("loading");
    expect(shown()).toEqual(["a"]);
  });
});

describe("V17: a sign-in that has lapsed", () => {
  test("is told apart from a failure, and afterwards the listing goes on", async () => {
    const lapsed = refusal(Code.FailedPrecondition, "SITE_SIGN_IN_REQUIRED", { site: "sites/a" });
    const { listing: made, shown } = listing([() => refused(lapsed), () => whole("a")]);
    made.start();
    await vi.waitFor(() => expect(made.read().status).toBe("signedOut"));
    made.refresh();
    await vi.waitFor(() => expect(made.read().status).toBe("complete"));
    expect(shown()).toEqual(["a"]);
  });
});

describe("V13: reading a directory again", () => {
  test("keeps what is shown until the new listing is whole", async () => {
    const { gate, release } = closedGate();
    const { listing: made, shown } = listing([
      () => whole("a"),
      async function* () {
        yield { ...DIRECTORY, entries: [file("a")] };
        await gate;
        yield { ...DIRECTORY, entries: [file("b")], last: true };
      },
    ]);
    made.start();
    await vi.waitFor(() => expect(made.read().status).toBe("complete"));
    const before = made.read().rows;
    made.refresh();
    expect(made.read()).toMatchObject({ refreshing: true, status: "complete" });
    expect(made.read().rows).toBe(before);
    release();
    await vi.waitFor(() => expect(made.read().refreshing).toBe(false));
    expect(shown()).toEqual(["a", "b"]);
    expect(made.read().rows).not.toBe(before);
  });

  test("leaves what is shown where it is when that does not work, and says so", async () => {
    const { listing: made, shown } = listing([() => whole("a"), () => refused(refusal(Code.Unavailable, "NO_WORKER"))]);
    made.start();
    await vi.waitFor(() => expect(made.read().status).toBe("complete"));
    made.refresh();
    await vi.waitFor(() => expect(made.read().refreshing).toBe(false));
    expect(shown()).toEqual(["a"]);
    expect(made.read()).toMatchObject({ status: "complete", failure: { reason: "NO_WORKER" } });
  });
});
