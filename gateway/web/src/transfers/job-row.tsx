/** One job in the tray. */
import {
  ArrowRight,
  CircleAlert,
  CircleCheck,
  CircleDashed,
  CirclePause,
  CircleSlash,
  CircleX,
  KeyRound,
  X,
} from "lucide-react";
import { memo, type ReactNode, useState } from "react";
import { describe } from "../failure";
import { explainFailure } from "../files/explained";
import { hueOf } from "../files/hue";
import { shortTitle } from "../files/titles";
import { count, rate } from "../format";
import { words } from "../words";
import { cancelJob } from "./live";
import { type JobModel, jobModel, type StateName } from "./model";
import { amountText, jobTitle, remainingText, waitingText } from "./phrases";
import { Ring } from "./ring";
import type { WatchedJob } from "./store";

export interface JobRowProps {
  readonly watched: WatchedJob;
  /** A site's title by its name; the same function while the sites are the same. */
  readonly titleOf: (site: string) => string;
}

export const JobRow = memo(function JobRow({ watched, titleOf }: JobRowProps) {
  const model = jobModel(watched);
  const title = jobTitle(model);
  return (
    <li className="job" data-job={model.name.replace(/^jobs\//, "")} data-state={model.state}>
      <span className="job-icon">
        <StateIcon model={model} />
      </span>
      <span className="job-name">
        <bdi className="fname" title={title}>
          {title}
        </bdi>
        <Route model={model} titleOf={titleOf} />
      </span>
      <Middle model={model} title={title} titleOf={titleOf} />
      <span className="job-rate num">{model.moving && rate(model.bytesPerSecond)}</span>
      <Outlook model={model} />
      <span className="job-actions">{!model.ended && <Cancel model={model} title={title} />}</span>
    </li>
  );
});

function Route({
  model: { from, to },
  titleOf,
}: {
  readonly model: JobModel;
  readonly titleOf: (site: string) => string;
}) {
  return (
    <span className="route">
      <Chip site={from} titleOf={titleOf} />
      {to !== undefined && (
        <>
          <ArrowRight size={12} aria-label="→" />
          <Chip site={to} titleOf={titleOf} />
        </>
      )}
    </span>
  );
}

function Chip({ site, titleOf }: { readonly site: string; readonly titleOf: (site: string) => string }) {
  if (site === "") return null;
  const title = titleOf(site);
  return (
    <span className="chip" data-hue={hueOf(site)} title={title}>
      {shortTitle(title)}
    </span>
  );
}

/** How far it is, or what went wrong. */
function Middle({
  model,
  title,
  titleOf,
}: {
  readonly model: JobModel;
  readonly title: string;
  readonly titleOf: (site: string) => string;
}) {
  const waiting = waitingText(model, titleOf);
  return (
    <span className="job-middle">
      {model.state === "failed" ? null : <Bar model={model} title={title} />}
      {model.failure && model.ended ? (
        <FailureText model={model} />
      ) : (
        <span className="job-amount num">
          {waiting ? <span className="job-waiting">{waiting}</span> : <Amount model={model} />}
        </span>
      )}
    </span>
  );
}

function Bar({ model, title }: { readonly model: JobModel; readonly title: string }) {
  const { from, to = from, fraction, growing } = model;
  return (
    <span
      className="bar"
      role="progressbar"
      aria-label={words.transfers.progressOf(title)}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={growing ? undefined : Math.floor(fraction * 100)}
      data-from={hueOf(from)}
      data-to={hueOf(to)}
      data-growing={growing || undefined}
    >
      <i style={{ transform: `scaleX(${fraction})` }} />
    </span>
  );
}

function Amount({ model }: { readonly model: JobModel }) {
  const { done, rest, files } = amountText(model);
  return (
    <>
      {done}
      <span className="dim">
        {rest}
        {files && (done || rest ? ` · ${files}` : files)}
      </span>
    </>
  );
}

function FailureText({ model }: { readonly model: JobModel }) {
  if (!model.failure) return null;
  const { what, who, help } = explainFailure(model.failure, model.to === undefined);
  const partly = model.state === "partially-failed" && model.filesTotal > 0;
  const counts = partly ? `${words.transfers.filesFailed(count(model.filesFailed), count(model.filesTotal))}: ` : "";
  const advice = [who, help].filter(Boolean).join(" ");
  return (
    <span className="job-failure" data-reason={model.failure.reason} title={[what, advice].filter(Boolean).join(" ")}>
      <span className="job-failure-what">
        {counts}
        {what}
      </span>
      {advice && <span className="job-failure-help">{advice}</span>}
    </span>
  );
}

/** The time that is left, or the state in words. */
function Outlook({ model }: { readonly model: JobModel }) {
  const left = remainingText(model.remaining);
  const state = words.transfers.states[model.state];
  if (model.state === "running" && left !== "" && !model.waiting)
    return <span className="job-outlook job-left num">{left}</span>;
  return (
    <span className="job-outlook num">
      <span className="job-state">{state}</span>
      {model.remaining === "open" && (
        <small className="job-left" title={words.transfers.leftUnknownHint}>
          {left}
        </small>
      )}
    </span>
  );
}

function Cancel({ model, title }: { readonly model: JobModel; readonly title: string }) {
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);
  const cancel = async () => {
    setBusy(true);
    setProblem(undefined);
    try {
      await cancelJob(model.name);
    } catch (error) {
      setProblem(words.transfers.cancelFailed(describe(error).message));
    } finally {
      setBusy(false);
    }
  };
  const label = words.transfers.cancel(title);
  return (
    <>
      {problem && (
        <span className="job-problem" role="alert">
          {problem}
        </span>
      )}
      <button
        type="button"
        className="icon-btn small"
        aria-label={label}
        title={label}
        disabled={busy || model.state === "cancelling"}
        onClick={() => void cancel()}
      >
        <X size={15} aria-hidden />
      </button>
    </>
  );
}

function StateIcon({ model }: { readonly model: JobModel }) {
  if (model.moving || model.state === "running")
    return <Ring fraction={model.fraction} label={words.transfers.states[model.state]} />;
  return (
    <span role="img" aria-label={words.transfers.states[model.state]}>
      {ICONS[model.state]}
    </span>
  );
}

const ICONS: Readonly<Record<StateName, ReactNode>> = {
  unknown: <CircleDashed size={16} />,
  queued: <CircleDashed size={16} />,
  expanding: <CircleDashed size={16} />,
  running: <CircleDashed size={16} />,
  paused: <CirclePause size={16} />,
  "waiting-for-sign-in": <KeyRound size={16} />,
  cancelling: <CircleSlash size={16} />,
  cancelled: <CircleSlash size={16} />,
  succeeded: <CircleCheck size={16} />,
  "partially-failed": <CircleAlert size={16} />,
  failed: <CircleX size={16} />,
};
