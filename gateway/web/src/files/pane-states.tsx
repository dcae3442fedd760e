/** What a pane shows where there are no rows to show. */
import { FileQuestionMark, FileX, FolderOpen, MapPinOff, SearchX, TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";
import { words } from "../words";
import type { Explained } from "./explained";
import { lastName, type SitePath } from "./path";
import { shownName } from "./shown";

interface StateProps {
  readonly icon: ReactNode;
  readonly heading: string;
  readonly alert?: boolean;
  readonly children?: ReactNode;
}

function State({ icon, heading, alert = false, children }: StateProps) {
  return (
    <div className="state" role={alert ? "alert" : undefined}>
      <span className="state-icon" aria-hidden>
        {icon}
      </span>
      <p className="state-heading">{heading}</p>
      {children}
    </div>
  );
}

export function NoSiteChosen() {
  const text = words.files;
  return (
    <State icon={<FileQuestionMark size={28} />} heading={text.chooseSite}>
      <p>{text.chooseSiteHelp}</p>
    </State>
  );
}

export function SiteGone({ id }: { readonly id: string }) {
  const text = words.files.siteGone;
  return (
    <State icon={<MapPinOff size={28} />} heading={text.heading} alert>
      <p>{text.text(id)}</p>
    </State>
  );
}

export interface EmptyFolderProps {
  readonly title: string;
  readonly filter: string;
  /** Entries that are there and not shown. */
  readonly hiddenCount: number;
  readonly onShowHidden: () => void;
}

export function EmptyFolder({ title, filter, hiddenCount, onShowHidden }: EmptyFolderProps) {
  const text = words.files.states;
  if (filter !== "") {
    return (
      <State icon={<SearchX size={28} />} heading={text.noMatch(filter)}>
        <p>{text.noMatchHelp}</p>
      </State>
    );
  }
  if (hiddenCount > 0) {
    return (
      <State icon={<FolderOpen size={28} />} heading={text.allHidden}>
        <button type="button" className="btn" onClick={onShowHidden}>
          {text.showHidden}
        </button>
      </State>
    );
  }
  return (
    <State icon={<FolderOpen size={28} />} heading={text.empty}>
      <p>{text.emptyHelp(title)}</p>
    </State>
  );
}

export function IsFile({ path, onParent }: { readonly path: SitePath; readonly onParent: () => void }) {
  const text = words.files.states;
  return (
    <State icon={<FileX size={28} />} heading={text.isFile(shownName(lastName(path)))}>
      <p>{text.isFileHelp}</p>
      <button type="button" className="btn" onClick={onParent}>
        {text.toParent}
      </button>
    </State>
  );
}

export interface ListingFailedProps {
  readonly heading: string;
  readonly failure: Explained;
  readonly onRetry: () => void;
}

export function ListingFailed({ heading, failure, onRetry }: ListingFailedProps) {
  return (
    <State icon={<TriangleAlert size={28} />} heading={heading} alert>
      <p data-reason={failure.reason}>{failure.what}</p>
      {(failure.who || failure.help) && <p>{[failure.who, failure.help].filter(Boolean).join(" ")}</p>}
      <button type="button" className="btn" onClick={onRetry}>
        {words.tryAgain}
      </button>
    </State>
  );
}
