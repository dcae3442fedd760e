/** The files screen: two panes side by side, each on any site, and the transfers under them. */
import { useCallback, useEffect, useRef, useState } from "react";
import { describe } from "../failure";
import type { Site } from "../gen/wherry/site/v1/site_service_pb";
import { Tray } from "../transfers/tray";
import { words } from "../words";
import type { DirectoryHandle, PaneReport } from "./directory";
import { explainProblem } from "./explained";
import { Skeleton } from "./file-grid";
import "./files.css";
import "./pane.css";
import "./grid.css";
import "./states.css";
import { firstSites } from "./first-places";
import { Gutter } from "./gutter";
import { SMALL, useMedia } from "./hooks";
import { NoSites } from "./no-sites";
import { useNotices } from "./notice";
import { Pane } from "./pane";
import { ListingFailed } from "./pane-states";
import { DEFAULT_PATH } from "./path";
import { otherSide, SIDES, type Side } from "./places";
import { endsMs, type SessionsBySite, titleOf, useSiteSessions, useSites } from "./sites";
import { Tabs } from "./tabs";
import { shortTitle } from "./titles";
import { useDirectoryActions } from "./use-directory-actions";
import { type GoTo, type Places, usePlaces } from "./use-places";

export type Reports = Readonly<Record<Side, PaneReport | undefined>>;

const NO_REPORTS: Reports = { left: undefined, right: undefined };

/** The Files screen. */
export default function FilesPage() {
  const sites = useSites();
  return (
    <div className="files">
      <h1 className="sr">{words.files.heading}</h1>
      <div className="files-body">
        {sites.data ? (
          sites.data.length > 0 ? (
            <Panes sites={sites.data} />
          ) : (
            <NoSites onCheck={() => void sites.refetch()} checking={sites.isFetching} />
          )
        ) : sites.error ? (
          <div className="pane lone">
            <ListingFailed
              heading={words.files.sitesFailed}
              failure={explainProblem(describe(sites.error))}
              onRetry={() => void sites.refetch()}
            />
          </div>
        ) : (
          <div className="pane lone late" aria-busy>
            <Skeleton />
          </div>
        )}
      </div>
      <Tray sites={sites.data ?? []} />
    </div>
  );
}

function Panes({ sites }: { readonly sites: readonly Site[] }) {
  const sessions = useSiteSessions();
  const [places, goTo] = usePlaces();
  const small = useMedia(SMALL);
  const [shownSide, setShownSide] = useState<Side>("left");
  const [reports, setReports] = useState(NO_REPORTS);
  const notices = useNotices();
  const handles = useRef<Record<Side, DirectoryHandle | null>>({ left: null, right: null });

  useFirstPlaces(sites, sessions.data, !sessions.isPending, places, goTo);

  const onReport = useCallback((side: Side, report: PaneReport | undefined) => {
    setReports((before) => ({ ...before, [side]: report }));
  }, []);
  const focusPane = useCallback((side: Side) => handles.current[side]?.focus(), []);
  const { onCopy, ...actions } = useDirectoryActions({
    sites,
    sessions: sessions.data,
    places,
    reports,
    notices,
    focusPane,
  });

  const shortTitleAt = (side: Side) => {
    const site = sites.find((each) => each.name === places[side]?.site);
    return site && shortTitle(titleOf(site));
  };
  const pane = (side: Side) => (
    <Pane
      {...actions}
      handle={(handle: DirectoryHandle | null) => {
        handles.current[side] = handle;
      }}
      side={side}
      shown={!small || shownSide === side}
      place={places[side]}
      sites={sites}
      sessions={sessions.data}
      target={shortTitleAt(otherSide(side))}
      notice={notices.shown[side]}
      say={notices.say}
      onDismiss={notices.dismiss}
      onPlace={goTo}
      onReport={onReport}
      onCopy={onCopy}
    />
  );
  const selected = (side: Side) => reports[side]?.selected ?? [];
  if (sessions.isPending) {
    return (
      <div className="panes late" aria-busy>
        <div className="pane">
          <Skeleton />
        </div>
        <span />
        <div className="pane">
          <Skeleton />
        </div>
      </div>
    );
  }
  return (
    <>
      {small && (
        <Tabs
          shown={shownSide}
          onShow={setShownSide}
          places={places}
          titles={{ left: shortTitleAt("left"), right: shortTitleAt("right") }}
          selected={{ left: selected("left").length, right: selected("right").length }}
        />
      )}
      <div className="panes">
        {pane("left")}
        <Gutter
          canCopy={{ left: selected("left").length > 0, right: selected("right").length > 0 }}
          onCopy={(from) => onCopy(from, selected(from))}
        />
        {pane("right")}
      </div>
    </>
  );
}

/** Gives panes that the address names no site for one to begin with. */
function useFirstPlaces(
  sites: readonly Site[],
  sessions: SessionsBySite | undefined,
  ready: boolean,
  places: Places,
  goTo: GoTo,
): void {
  const left = places.left?.site;
  const right = places.right?.site;
  useEffect(() => {
    if (!ready || (left !== undefined && right !== undefined)) return;
    const isSignedIn = (site: string) => {
      const session = sessions?.get(site);
      return session !== undefined && endsMs(session) > Date.now();
    };
    const chosen = firstSites(sites, isSignedIn, left, right);
    SIDES.forEach((side, index) => {
      const site = chosen[index];
      if (site !== undefined) goTo(side, { site, path: DEFAULT_PATH }, true);
    });
  }, [sites, sessions, ready, left, right, goTo]);
}
