/** What a pane shows of its site: a directory, or the sign-in that it takes. */
import { useQueryClient } from "@tanstack/react-query";
import { type RefObject, useEffect, useRef } from "react";
import { connection } from "../connection";
import type { Site, SiteSession } from "../gen/wherry/site/v1/site_service_pb";
import { Directory, type Entrance } from "./directory";
import { SMALL, TOUCH, useMedia } from "./hooks";
import { BY_NAME, type Order } from "./order";
import type { PaneProps } from "./pane";
import { PaneBar } from "./pane-bar";
import { PaneFoot } from "./pane-foot";
import { lastEntryName, nameKey, parentPath, pathOf, type SitePath, samePath } from "./path";
import type { Place, Side } from "./places";
import { SiteSignIn, type SiteSignInProps } from "./site-sign-in";
import { forgetSessions, titleOf } from "./sites";
import { type PaneListing, useListing } from "./use-listing";
import { usePaneDrop } from "./use-pane-drop";

export interface SitePaneProps extends PaneProps {
  readonly place: Place;
  readonly site: Site;
  readonly session: SiteSession | undefined;
  readonly section: RefObject<HTMLElement | null>;
  readonly onOver: (folder: string | undefined) => void;
  readonly order: Order;
  readonly onOrder: (order: Order) => void;
  readonly withHidden: boolean;
  readonly onWithHidden: (withHidden: boolean) => void;
  /** Whether somebody wants to sign in anew though the session still lasts. */
  readonly renewing: boolean;
  readonly onRenewed: () => void;
}

export function SitePane(props: SitePaneProps) {
  const { side, place, site, session, sessions, section, renewing, onRenewed, onPlace, say } = props;
  const small = useMedia(SMALL);
  const touch = useMedia(TOUCH);
  // Where the site service cannot tell who is signed in, the listing itself will.
  const mayList = sessions === undefined || session !== undefined;
  const paneListing = useListing(place, mayList);
  const { listing, state, place: shown } = paneListing;
  const signedOut = !mayList || state.status === "signedOut";
  const canDrop = !signedOut && !renewing && !state.isFile;
  const entrance = useRef<Entrance>({ focus: false, active: undefined });

  useAbsolutePath(paneListing, place, side, onPlace);
  usePaneDrop({ section, side, place: canDrop ? shown : undefined, onDrop: props.onDrop, onOver: props.onOver });
  useTruth(paneListing);

  if (signedOut || renewing) {
    const wasShown = state.count > 0 || state.status === "signedOut";
    return (
      <SignInstead
        site={site}
        side={side}
        small={small}
        path={shown?.path ?? expectedPath(place, site)}
        signedOut={signedOut}
        occasion={!signedOut ? "renew" : wasShown ? "lapsed" : "first"}
        username={session?.username ?? sessions?.get(site.name)?.username ?? ""}
        onDone={(notice) => {
          onRenewed();
          say(side, notice);
          listing.refresh();
        }}
        onBack={signedOut ? undefined : onRenewed}
      />
    );
  }
  return (
    <Directory
      {...props}
      key={listing.id}
      title={titleOf(site)}
      small={small}
      touch={touch}
      paneListing={paneListing}
      expectedPath={expectedPath(place, site)}
      entrance={entrance.current}
      onPath={(path) => {
        const focus = section.current?.contains(document.activeElement) ?? false;
        const isUp = shown !== undefined && samePath(path, parentPath(shown.path));
        entrance.current = { focus, active: isUp ? nameKey(lastEntryName(shown.path)) : undefined };
        onPlace(side, { site: site.name, path }, false);
      }}
    />
  );
}

interface SignInsteadProps extends SiteSignInProps {
  readonly side: Side;
  readonly small: boolean;
  readonly path: SitePath;
  readonly signedOut: boolean;
}

function SignInstead({ side, small, path, signedOut, ...signIn }: SignInsteadProps) {
  return (
    <>
      <PaneBar {...IDLE_BAR} path={path} title={titleOf(signIn.site)} small={small} />
      <SiteSignIn {...signIn} key={signIn.site.name} />
      <PaneFoot {...IDLE_FOOT} side={side} small={small} signedIn={!signedOut} />
    </>
  );
}

/** Where the pane will open, as far as it can be told before the site has told it. */
function expectedPath(place: Place, site: Site): SitePath {
  const isKnown = site.defaultPath !== "" && !site.defaultPath.includes("{user}");
  return place.path.text === "" && isKnown ? pathOf(site.defaultPath) : place.path;
}

/** Puts the absolute path into the address when the site has told what its default path is. */
function useAbsolutePath({ place: told }: PaneListing, place: Place, side: Side, onPlace: PaneProps["onPlace"]): void {
  useEffect(() => {
    if (told && place.path.text === "") onPlace(side, told, true);
  }, [told, place, side, onPlace]);
}

/** Lets what a listing finds out be known, and lists again when what was away is back. */
function useTruth({ listing, state }: PaneListing): void {
  const queries = useQueryClient();
  useEffect(() => {
    if (state.status === "signedOut") forgetSessions(queries);
  }, [state.status, queries]);
  useEffect(
    () =>
      connection.onBack(() => {
        if (listing.read().failure?.retryable) listing.refresh();
      }),
    [listing],
  );
}

const nothing = () => undefined;

const IDLE_BAR = {
  disabled: true,
  order: BY_NAME,
  onOrder: nothing,
  filter: undefined,
  onFilter: nothing,
  withHidden: false,
  onWithHidden: nothing,
  refreshing: false,
  onRefresh: nothing,
  onPath: nothing,
  onLeave: nothing,
} as const;

const IDLE_FOOT = {
  countable: false,
  loading: false,
  shownCount: 0,
  hiddenCount: 0,
  selectedCount: 0,
  selectedBytes: 0,
  target: undefined,
  onClear: nothing,
  onCopy: nothing,
} as const;
