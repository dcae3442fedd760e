/** What the panes do with one another: copying across, dropping, and the clipboard. */
import { useCallback, useRef } from "react";
import { plural } from "../format";
import type { Site } from "../gen/wherry/site/v1/site_service_pb";
import { words } from "../words";
import type { Copying } from "./copying";
import type { DirectoryActions } from "./directory";
import type { Notices } from "./notice";
import type { Reports } from "./page";
import { otherSide, type Place, type Side } from "./places";
import { type SessionsBySite, titleOf } from "./sites";
import { useCopying } from "./use-copying";
import type { Places } from "./use-places";

export interface PanesNow {
  readonly sites: readonly Site[];
  readonly sessions: SessionsBySite | undefined;
  readonly places: Places;
  readonly reports: Reports;
  readonly notices: Notices;
  readonly focusPane: (side: Side) => void;
}

type Clip = Pick<Copying, "from" | "rows">;

/** The actions never change; they look at what is there when they are called. */
export function useDirectoryActions(
  now: PanesNow,
): Pick<DirectoryActions, "onCopy" | "onDrop" | "onClip" | "onPaste" | "onOther"> {
  const latest = useRef(now);
  latest.current = now;
  const clip = useRef<Clip>(undefined);
  const { say } = now.notices;
  const copy = useCopying(now.notices);

  const start = useCallback(
    (at: Side, { from, rows }: Clip, to: Place, accepted?: () => void) => {
      const title = (place: Place) => {
        const site = latest.current.sites.find((each) => each.name === place.site);
        return site ? titleOf(site) : place.site;
      };
      copy({ at, from, to, rows, fromTitle: title(from), toTitle: title(to), accepted });
    },
    [copy],
  );

  const onCopy = useCallback<DirectoryActions["onCopy"]>(
    (side, rows) => {
      const { reports } = latest.current;
      const from = reports[side];
      const to = reports[otherSide(side)];
      if (!from) return;
      if (!to) say(side, { kind: "warn", what: whyNoTarget(latest.current, otherSide(side)) });
      else start(side, { from: from.place, rows }, to.place, from.clear);
    },
    [say, start],
  );

  const onDrop = useCallback<DirectoryActions["onDrop"]>(
    (dragged, side, to) => {
      const report = latest.current.reports[dragged.side];
      // Only a selection that was dragged whole is done with; another one stays.
      const accepted = report?.selected === dragged.rows ? report.clear : undefined;
      start(side, dragged, to, accepted);
    },
    [start],
  );

  const onClip = useCallback<DirectoryActions["onClip"]>(
    (side, rows) => {
      const from = latest.current.reports[side];
      if (!from || rows.length === 0) return say(side, { kind: "warn", what: words.files.copy.nothing });
      clip.current = { from: from.place, rows };
      say(side, { kind: "info", what: words.files.copy.clipped(plural(rows.length, words.files.copy.item)) });
    },
    [say],
  );

  const onPaste = useCallback<DirectoryActions["onPaste"]>(
    (side) => {
      const to = latest.current.reports[side];
      if (!to) return;
      if (clip.current) start(side, clip.current, to.place);
      else say(side, { kind: "warn", what: words.files.copy.nothingClipped });
    },
    [say, start],
  );

  const onOther = useCallback<DirectoryActions["onOther"]>((side) => latest.current.focusPane(otherSide(side)), []);

  return { onCopy, onDrop, onClip, onPaste, onOther };
}

/** Why a pane cannot be copied to. */
function whyNoTarget({ places, sites, sessions }: PanesNow, side: Side): string {
  const text = words.files.copy;
  const place = places[side];
  const site = place && sites.find((each) => each.name === place.site);
  if (!site) return text.needSite;
  return sessions && !sessions.has(site.name) ? text.needSignIn(titleOf(site)) : text.needFolder;
}
