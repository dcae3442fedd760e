/** The transfers under the panes, live. */
import { ArrowLeftRight, ChevronDown, ChevronUp, WifiOff } from "lucide-react";
import { lazy, Suspense, useCallback, useEffect, useState } from "react";
import { announce } from "../announce";
import { SMALL, useMedia } from "../files/hooks";
import { siteId } from "../files/places";
import { titleOf as titleOfSite } from "../files/sites";
import { count, rate } from "../format";
import { type Job, JobState } from "../gen/wherry/queue/v1/job_service_pb";
import type { Site } from "../gen/wherry/site/v1/site_service_pb";
import { words } from "../words";
import { JobRow } from "./job-row";
import { onJobEnded, tryNow, useJobs } from "./live";
import { jobModel } from "./model";
import { jobTitle } from "./phrases";
import { isEnded, type Jobs, type WatchedJob } from "./store";
import "./jobs.css";
import "./tray.css";

const Chart = lazy(() => import("./chart"));
const WIDE = "(min-width: 1181px)";

export function Tray({ sites }: { readonly sites: readonly Site[] }) {
  const jobs = useJobs();
  const small = useMedia(SMALL);
  const wide = useMedia(WIDE);
  const [chosen, setChosen] = useState<boolean>();
  const open = chosen ?? !small;
  const titleOf = useCallback(
    (name: string) => {
      const site = sites.find((each) => each.name === name);
      return site ? titleOfSite(site) : siteId(name);
    },
    [sites],
  );
  useAnnouncedEnds();

  return (
    <section
      className="tray"
      data-open={open || undefined}
      data-connection={jobs.connection}
      aria-label={words.transfers.heading}
    >
      <header className="tray-head">
        <h2>
          <button type="button" className="tray-toggle" aria-expanded={open} onClick={() => setChosen(!open)}>
            {open ? <ChevronDown size={16} aria-hidden /> : <ChevronUp size={16} aria-hidden />}
            {words.transfers.heading}
          </button>
        </h2>
        <Pills list={jobs.list} />
        <span className="grow" />
        <ConnectionState jobs={jobs} />
        {jobs.connection === "live" && jobs.bytesPerSecond > 0 && (
          <b className="tray-rate num">{rate(jobs.bytesPerSecond)}</b>
        )}
      </header>
      {open && (
        <div className="tray-body" data-charted={wide || undefined}>
          {jobs.list.length > 0 ? (
            // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so it must take the keys
            <ul className="jobs" tabIndex={0} aria-label={words.transfers.heading}>
              {jobs.list.map((watched) => (
                <JobRow key={watched.job.name} watched={watched} titleOf={titleOf} />
              ))}
            </ul>
          ) : (
            <NoJobs jobs={jobs} />
          )}
          {wide && (
            <div className="chart-box">
              <div className="chart-head">
                <span>{words.transfers.throughput}</span>
                <span className="grow" />
                <b className="num">{jobs.connection === "live" ? rate(jobs.bytesPerSecond) : "–"}</b>
              </div>
              <Suspense fallback={<div className="chart" />}>
                <Chart measured={jobs.measured} bytesPerSecond={jobs.bytesPerSecond} />
              </Suspense>
            </div>
          )}
        </div>
      )}
    </section>
  );
}

function NoJobs({ jobs }: { readonly jobs: Jobs }) {
  const text = words.transfers;
  if (jobs.connection !== "live") {
    return <p className="no-jobs dim late">{jobs.connection === "connecting" ? text.connecting : text.lostHelp}</p>;
  }
  return (
    <div className="no-jobs">
      <ArrowLeftRight size={20} aria-hidden />
      <p>{text.none}</p>
      <p className="dim">{text.noneHelp}</p>
    </div>
  );
}

function ConnectionState({ jobs }: { readonly jobs: Jobs }) {
  const text = words.transfers;
  if (jobs.connection !== "lost" && jobs.connection !== "refused") return null;
  return (
    <span className="tray-lost" role="status" title={text.lostHelp}>
      <WifiOff size={14} aria-hidden />
      {jobs.connection === "lost" ? text.lost : text.refused}
      <button type="button" className="btn ghost" onClick={tryNow}>
        {text.tryNow}
      </button>
    </span>
  );
}

function Pills({ list }: { readonly list: readonly WatchedJob[] }) {
  const text = words.transfers;
  const counts = countsOf(list);
  return (
    <span className="pills num">
      {counts.running > 0 && <Pill kind="running" label={text.running(count(counts.running))} />}
      {counts.failed > 0 && <Pill kind="failed" label={text.failed(count(counts.failed))} />}
      {counts.waiting > 0 && <Pill kind="waiting" label={text.waiting(count(counts.waiting))} />}
      {counts.done > 0 && <Pill kind="done" label={text.done(count(counts.done))} />}
    </span>
  );
}

function Pill({ kind, label }: { readonly kind: keyof Counts; readonly label: string }) {
  return (
    <span className="pill" data-kind={kind}>
      <i />
      {label}
    </span>
  );
}

interface Counts {
  readonly running: number;
  readonly failed: number;
  readonly waiting: number;
  readonly done: number;
}

function countsOf(list: readonly WatchedJob[]): Counts {
  const kinds = list.map(({ job }) => kindOf(job));
  const of = (kind: keyof Counts) => kinds.filter((each) => each === kind).length;
  return { running: of("running"), failed: of("failed"), waiting: of("waiting"), done: of("done") };
}

function kindOf(job: Job): keyof Counts | "other" {
  switch (job.state) {
    case JobState.EXPANDING:
    case JobState.RUNNING:
    case JobState.CANCELLING:
      return "running";
    case JobState.FAILED:
    case JobState.PARTIALLY_FAILED:
      return "failed";
    case JobState.SUCCEEDED:
      return "done";
    default:
      return isEnded(job) ? "other" : "waiting";
  }
}

/** Has it read out when a job ends. */
function useAnnouncedEnds(): void {
  useEffect(
    () =>
      onJobEnded((watched) => {
        const model = jobModel(watched);
        const { ended } = words.transfers;
        if (Object.hasOwn(ended, model.state)) announce(ended[model.state as keyof typeof ended](jobTitle(model)));
      }),
    [],
  );
}
