import { Code, createClient } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Connection } from "../../src/connection";
import { JobService } from "../../src/gen/wherry/queue/v1/job_service_pb";
import { SiteService } from "../../src/gen/wherry/site/v1/site_service_pb";
import { broken, FakeServices, refusal } from "../fakes/services";

let services: FakeServices;
let connection: Connection;

function clients() {
  const transport = services.transport([connection.watching()]);
  const sites = createClient(SiteService, transport);
  const jobs = createClient(JobService, transport);
  connection.probeWith({ site: () => sites.listSites({}), queue: () => jobs.listJobs({}) });
  return { sites, jobs };
}

const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => {
  vi.useFakeTimers();
  services = new FakeServices().signedIn();
  connection = new Connection();
});

afterEach(() => {
  connection.reset();
  vi.useRealTimers();
});

describe("a service that is away", () => {
  test("is named after a call to it has failed, and no other is", async () => {
    const { jobs, sites } = clients();
    services.away.add("queue");
    await expect(jobs.listJobs({})).rejects.toThrow();
    await sites.listSites({});
    await settle();
    expect(connection.away).toEqual(["queue"]);
  });

  test("is asked again by itself, and no longer named once it answers", async () => {
    const { jobs } = clients();
    const back = vi.fn();
    connection.onBack(back);
    services.away.add("queue");
    await expect(jobs.listJobs({})).rejects.toThrow();
    await settle();
    services.away.clear();
    await vi.advanceTimersByTimeAsync(15_000);
    expect(connection.away).toEqual([]);
    expect(back).toHaveBeenCalledExactlyOnceWith("queue");
    services.calls = [];
    await vi.advanceTimersByTimeAsync(120_000);
    expect(services.calls).toEqual([]);
  });

  test("is no longer named as soon as any call to it succeeds", async () => {
    const { jobs } = clients();
    services.away.add("queue");
    await expect(jobs.listJobs({})).rejects.toThrow();
    await settle();
    services.away.clear();
    await jobs.listJobs({});
    expect(connection.away).toEqual([]);
  });

  test("is asked at once when the network comes back", async () => {
    const { sites } = clients();
    services.away.add("gateway");
    await expect(sites.listSites({})).rejects.toThrow();
    await settle();
    expect(connection.away).toEqual(["gateway"]);
    services.away.clear();
    connection.checkNow();
    await settle();
    expect(connection.away).toEqual([]);
  });

  test("is told from the gateway: where a service is named, the gateway has answered", async () => {
    const { sites } = clients();
    services.away.add("gateway");
    await expect(sites.listSites({})).rejects.toThrow();
    await settle();
    services.away = new Set(["site"]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(connection.away).toEqual(["site"]);
  });
});

describe("what is no sign of a service being away", () => {
  test("one stream that breaks while the service answers", async () => {
    const { jobs } = clients();
    services.streamEnds = refusal(Code.Unavailable, "SERVICE_UNAVAILABLE", { service: "queue" });
    const read = async () => {
      for await (const _ of jobs.watchJobs({}));
    };
    await expect(read()).rejects.toThrow();
    await settle();
    expect(connection.away).toEqual([]);
  });

  test("an answer that something else is unavailable", async () => {
    const { jobs } = clients();
    services.streamEnds = refusal(Code.Unavailable, "NO_WORKER");
    const read = async () => {
      for await (const _ of jobs.watchJobs({}));
    };
    services.calls = [];
    await expect(read()).rejects.toThrow();
    await settle();
    expect(services.calls).toEqual(["WatchJobs"]);
    expect(connection.away).toEqual([]);
  });
});

test("a broken fetch is an error of the network", () => {
  expect(broken().cause).toBeInstanceOf(TypeError);
});
