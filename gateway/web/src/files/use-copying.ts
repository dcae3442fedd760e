/** Starts copies, and says in the pane where one was asked for how that went. */
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useRef } from "react";
import { jobs } from "../api";
import { describe } from "../failure";
import { count, plural } from "../format";
import type { CreateJobRequest, Job } from "../gen/wherry/queue/v1/job_service_pb";
import { jobCreated } from "../transfers/live";
import { words } from "../words";
import { type Copying, copyRequest, MOST_ITEMS, type Refusal, refusalOf } from "./copying";
import type { Notice, Notices } from "./notice";
import type { Side } from "./places";
import { shownName } from "./shown";
import { forgetSessions } from "./sites";

export interface CopyAsked extends Copying {
  /** The pane where it was asked for. */
  readonly at: Side;
  readonly fromTitle: string;
  readonly toTitle: string;
  /** Called when the job is accepted. */
  readonly accepted?: (() => void) | undefined;
}

export function useCopying({ say }: Notices): (asked: CopyAsked) => void {
  const queries = useQueryClient();
  const again = useRef<(asked: CopyAsked, request: CreateJobRequest) => void>(() => undefined);

  const send = useCallback(
    async (asked: CopyAsked, request: CreateJobRequest) => {
      const { at, rows, fromTitle, toTitle } = asked;
      const items = plural(rows.length, words.files.copy.item);
      let job: Job;
      try {
        job = await jobs.createJob(request);
      } catch (error) {
        const problem = describe(error);
        if (problem.reason === "SITE_SIGN_IN_REQUIRED") forgetSessions(queries);
        // The same request again: if the first one did arrive after all, it is answered with the same job.
        const action = { label: words.files.copy.retry, run: () => again.current(asked, request) };
        const what = `${words.files.copy.failed}: ${problem.message}`;
        say(at, { kind: "error", what, help: problem.help ?? words.files.copy.failedHelp, action });
        return;
      }
      jobCreated(job);
      asked.accepted?.();
      say(at, { kind: "info", what: words.files.copy.queued(items, fromTitle, toTitle) });
    },
    [queries, say],
  );
  again.current = (asked, request) => void send(asked, request);

  return useCallback(
    (asked: CopyAsked) => {
      const refusal = refusalOf(asked);
      if (refusal) say(asked.at, refused(refusal));
      else void send(asked, copyRequest(asked, crypto.randomUUID()));
    },
    [say, send],
  );
}

function refused(refusal: Refusal): Notice {
  const text = words.files.copy;
  switch (refusal.kind) {
    case "nothing":
      return { kind: "warn", what: text.nothing };
    case "tooMany":
      return { kind: "warn", what: text.tooMany(count(refusal.count), count(MOST_ITEMS)), help: text.tooManyHelp };
    case "samePlace":
      return { kind: "warn", what: text.samePlace, help: text.samePlaceHelp };
    case "intoItself":
      return { kind: "warn", what: text.intoItself(shownName(refusal.name)), help: text.intoItselfHelp };
  }
}
