/** A pane's head: which site it shows, and how long one is signed in there. */
import * as DropdownMenu from "@radix-ui/react-dropdown-menu";
import { ChevronDown, LogOut, RotateCw, Timer, TriangleAlert } from "lucide-react";
import { duration, when } from "../format";
import type { Site, SiteSession } from "../gen/wherry/site/v1/site_service_pb";
import { words } from "../words";
import { useNow } from "./hooks";
import { mainLandmark } from "./landmark";
import { SHORT_S } from "./lifetime";
import { siteId } from "./places";
import { endsMs, type SessionsBySite, titleOf } from "./sites";
import { initials } from "./titles";

const TICK_MS = 15_000;

export interface PaneHeadProps {
  readonly site: Site | undefined;
  readonly session: SiteSession | undefined;
  readonly sites: readonly Site[];
  readonly sessions: SessionsBySite | undefined;
  readonly onSite: (site: Site) => void;
  readonly onRenew: () => void;
  readonly onSignOut: () => void;
}

export function PaneHead(props: PaneHeadProps) {
  const { site, session } = props;
  return (
    <header className="pane-head">
      <SiteMenu {...props} />
      <span className="grow" />
      {site && session && <SessionChip title={titleOf(site)} session={session} onRenew={props.onRenew} />}
    </header>
  );
}

function SiteMenu({ site, session, sites, sessions, onSite, onRenew, onSignOut }: PaneHeadProps) {
  const title = site ? titleOf(site) : words.files.chooseSite;
  const host = site ? hostOf(site) : "";
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger className="site-button">
        <span className="site-mark" aria-hidden>
          {site ? initials(title) : "?"}
        </span>
        <span className="site-text">
          <span className="site-name">{title}</span>
          {site && <span className="site-host">{session ? `${session.username}@${host}` : host}</span>}
        </span>
        {site && <span className="sr">{words.files.changeSite}</span>}
        <ChevronDown size={14} className="dim" aria-hidden />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal container={mainLandmark()}>
        <DropdownMenu.Content className="menu site-menu" align="start" sideOffset={6} collisionPadding={8}>
          <DropdownMenu.Label className="menu-label">{words.files.sitesInMenu}</DropdownMenu.Label>
          {sites.map((each) => (
            <DropdownMenu.Item
              key={each.name}
              className="menu-item"
              data-site={siteId(each.name)}
              onSelect={() => onSite(each)}
            >
              <SiteMenuLine site={each} signedIn={isLive(sessions?.get(each.name))} />
            </DropdownMenu.Item>
          ))}
          {site && session && (
            <>
              <DropdownMenu.Separator className="menu-line" />
              <DropdownMenu.Item className="menu-item" onSelect={onRenew}>
                <RotateCw size={15} aria-hidden />
                {words.files.renewIn(title)}
              </DropdownMenu.Item>
              <DropdownMenu.Item className="menu-item" onSelect={onSignOut}>
                <LogOut size={15} aria-hidden />
                {words.files.signOutOf(title)}
              </DropdownMenu.Item>
            </>
          )}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

function SiteMenuLine({ site, signedIn }: { readonly site: Site; readonly signedIn: boolean }) {
  return (
    <>
      <span className="dot" data-on={signedIn || undefined} aria-hidden />
      <span className="grow">
        {titleOf(site)}
        <small>{hostOf(site)}</small>
      </span>
      <span className="dim">{signedIn ? words.files.signedIn : words.files.signedOut}</span>
    </>
  );
}

interface SessionChipProps {
  readonly title: string;
  readonly session: SiteSession;
  readonly onRenew: () => void;
}

/** How much time is left. Amber, with a way to renew, when it is not much. */
function SessionChip({ title, session, onRenew }: SessionChipProps) {
  const now = useNow(TICK_MS);
  const left = (endsMs(session) - now) / 1000;
  const isShort = left < SHORT_S;
  const text = words.files.session;
  return (
    <button
      type="button"
      className="session"
      data-warn={isShort || undefined}
      title={text.title(title, when(endsMs(session)))}
      onClick={onRenew}
    >
      {isShort ? <TriangleAlert size={13} aria-hidden /> : <Timer size={13} aria-hidden />}
      <span className="num">{text.left(duration(left))}</span>
      {isShort ? <b>{text.renew}</b> : <span className="sr">{text.renew}</span>}
    </button>
  );
}

function isLive(session: SiteSession | undefined): boolean {
  return session !== undefined && endsMs(session) > Date.now();
}

/** The machine that people know a site by: its first door's, else that of its sign-in server. */
function hostOf(site: Site): string {
  return site.endpoints[0]?.host ?? site.authAddress.replace(/:\d+$/, "");
}
