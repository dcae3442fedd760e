/** The jobs of who is signed in, live: one stream for the whole page, open while anybody looks. */
import { useSyncExternalStore } from "react";
import { jobs as client } from "../api";
import type { Job } from "../gen/wherry/queue/v1/job_service_pb";
import { session } from "../transport";
import { type JobEnded, JobStore, type Jobs } from "./store";
import { JobStream } from "./stream";

const MEASURE_MS = 1000;

const store = new JobStore();
const stream = new JobStream(client, store);
let watchers = 0;
let measuring: ReturnType<typeof setInterval> | undefined;

// Whoever looks next may be somebody else, and must see nothing of these jobs, not even for a moment.
session.onLeave(() => {
  stream.stop();
  store.clear();
});

/** Subscribes; the first one opens the stream, and when the last has gone it is closed and what it told forgotten. */
function subscribe(listener: () => void): () => void {
  const leave = store.subscribe(listener);
  watchers += 1;
  if (watchers === 1) begin();
  return () => {
    leave();
    watchers -= 1;
    // Not at once: React takes a component down and puts it up again in one go.
    setTimeout(() => {
      if (watchers === 0) end();
    });
  };
}

function begin(): void {
  stream.start();
  measuring ??= setInterval(() => store.measure(Date.now()), MEASURE_MS);
  window.addEventListener("online", tryNow);
}

function end(): void {
  stream.stop();
  clearInterval(measuring);
  measuring = undefined;
  window.removeEventListener("online", tryNow);
  store.clear();
}

/** Opens the stream anew, without waiting for the pause to end. */
export function tryNow(): void {
  stream.tryNow();
}

/** Everything, with each news. */
export function useJobs(): Jobs {
  return useSyncExternalStore(subscribe, store.read);
}

/** Everything, as it is just now. */
export const jobsNow = store.read;

/** Something made of the jobs that compares by value: a component renders again only when it changes. */
export function useJobsDerived<T extends string | number | boolean>(derive: (jobs: Jobs) => T): T {
  return useSyncExternalStore(subscribe, () => derive(store.read()));
}

export function onJobEnded(listener: JobEnded): () => void {
  return store.onEnded(listener);
}

/** Shows a job that was just created, before the stream tells of it. */
export function jobCreated(job: Job): void {
  store.add(job, Date.now());
}

/** Cancels a job. Raises what the call raises. */
export async function cancelJob(name: string): Promise<void> {
  store.apply([await client.cancelJob({ name })], Date.now());
}

export const throughput = store.throughput;
