/** One of the two panes: a site, and in it either a directory or a sign-in. */
import { useQueryClient } from "@tanstack/react-query";
import { type Ref, useRef, useState } from "react";
import { describe } from "../failure";
import type { Site } from "../gen/wherry/site/v1/site_service_pb";
import { words } from "../words";
import type { DirectoryActions, DirectoryHandle } from "./directory";
import { DropHint } from "./drop-hint";
import { useUntilItsEnd } from "./hooks";
import { hueOf } from "./hue";
import type { Notice } from "./notice";
import { BY_NAME, type Order } from "./order";
import { PaneHead } from "./pane-head";
import { PaneNotice } from "./pane-notice";
import { NoSiteChosen, SiteGone } from "./pane-states";
import { DEFAULT_PATH } from "./path";
import { type Place, type Side, siteId } from "./places";
import { SitePane } from "./site-pane";
import { forgetSessions, type SessionsBySite, signOutAt, titleOf } from "./sites";

export interface PaneProps extends DirectoryActions {
  readonly handle: Ref<DirectoryHandle>;
  readonly side: Side;
  readonly shown: boolean;
  readonly place: Place | undefined;
  readonly sites: readonly Site[];
  /** Undefined where it is not known at which sites one is signed in. */
  readonly sessions: SessionsBySite | undefined;
  /** Short title of the other pane's site. */
  readonly target: string | undefined;
  readonly notice: Notice | undefined;
  readonly say: (side: Side, notice: Notice) => void;
  readonly onDismiss: (side: Side) => void;
  readonly onPlace: (side: Side, place: Place, replace: boolean) => void;
}

export function Pane(props: PaneProps) {
  const { side, place, sites, sessions, say, onPlace } = props;
  const queries = useQueryClient();
  const site = place && sites.find((each) => each.name === place.site);
  const session = useUntilItsEnd(site && sessions?.get(site.name));
  const [renewing, setRenewing] = useState<string>();
  const section = useRef<HTMLElement>(null);
  const [over, setOver] = useState<string>();
  const [order, setOrder] = useState<Order>(BY_NAME);
  const [withHidden, setWithHidden] = useState(false);
  const title = site ? titleOf(site) : "";

  const signOut = async () => {
    if (!site) return;
    try {
      await signOutAt(queries, site.name);
      say(side, { kind: "info", what: words.files.signedOutOf(title) });
    } catch (error) {
      const problem = describe(error);
      if (problem.reason === "SITE_SESSION_NOT_FOUND") forgetSessions(queries);
      else say(side, { kind: "error", what: words.files.signOutFailed(title), help: problem.message });
    }
  };

  return (
    <section
      ref={section}
      className="pane"
      id={`pane-${side}`}
      aria-label={site ? words.files.paneLabel(title) : words.files.paneWithoutSite}
      data-pane={side}
      data-site={place && siteId(place.site)}
      data-hue={place && hueOf(place.site)}
      data-over={over !== undefined || undefined}
      data-shown={props.shown}
    >
      <PaneHead
        site={site}
        session={session}
        sites={sites}
        sessions={sessions}
        onSite={(chosen) => {
          setRenewing(undefined);
          if (chosen.name !== place?.site) onPlace(side, { site: chosen.name, path: DEFAULT_PATH }, false);
        }}
        onRenew={() => setRenewing(site?.name)}
        onSignOut={() => void signOut()}
      />
      {site && place ? (
        <SitePane
          {...props}
          place={place}
          site={site}
          session={session}
          section={section}
          onOver={setOver}
          order={order}
          onOrder={setOrder}
          withHidden={withHidden}
          onWithHidden={setWithHidden}
          renewing={renewing === site.name}
          onRenewed={() => setRenewing(undefined)}
        />
      ) : (
        <div className="pane-body">{place ? <SiteGone id={siteId(place.site)} /> : <NoSiteChosen />}</div>
      )}
      {props.notice && <PaneNotice notice={props.notice} onDismiss={() => props.onDismiss(side)} />}
      {over !== undefined && <DropHint folder={over} title={title} />}
    </section>
  );
}
