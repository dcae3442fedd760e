/** A pane's foot: how much there is, or what is selected and where it can go. */
import { bytes, count, plural } from "../format";
import { words } from "../words";
import type { Side } from "./places";

export interface PaneFootProps {
  readonly side: Side;
  readonly small: boolean;
  readonly signedIn: boolean;
  /** Whether there is a number of entries to speak of. */
  readonly countable: boolean;
  readonly loading: boolean;
  readonly shownCount: number;
  /** Entries that are there and not shown. */
  readonly hiddenCount: number;
  readonly selectedCount: number;
  readonly selectedBytes: number;
  /** Short title of the other pane's site; undefined where there is none. */
  readonly target: string | undefined;
  readonly onClear: () => void;
  readonly onCopy: () => void;
}

export function PaneFoot(props: PaneFootProps) {
  return (
    <footer className="pane-foot num">
      {props.selectedCount > 0 ? <Selected {...props} /> : <Counts {...props} />}
    </footer>
  );
}

function Counts({ signedIn, countable, loading, shownCount, hiddenCount }: PaneFootProps) {
  const text = words.files.foot;
  if (!signedIn) return <span>{text.notSignedIn}</span>;
  if (!countable) return null;
  if (loading) return <span>{shownCount > 0 ? text.loading(count(shownCount)) : text.loadingFirst}</span>;
  return (
    <>
      <span>{plural(shownCount, text.item)}</span>
      {hiddenCount > 0 && <span className="dim">{text.hidden(count(hiddenCount))}</span>}
    </>
  );
}

function Selected({ side, small, selectedCount, selectedBytes, target, onClear, onCopy }: PaneFootProps) {
  const text = words.files.foot;
  const label = text.copyTo(target ?? "…");
  return (
    <>
      <span>
        <b>{count(selectedCount)}</b> {text.selected}
        {selectedBytes > 0 && ` · ${bytes(selectedBytes)}`}
      </span>
      <span className="grow" />
      <button type="button" className="btn ghost" onClick={onClear}>
        {text.clear}
      </button>
      <button
        type="button"
        className="btn primary copy-button"
        title={text.copyHint}
        disabled={target === undefined}
        onClick={onCopy}
      >
        {side === "left" || small ? `${label} →` : `← ${label}`}
      </button>
    </>
  );
}
