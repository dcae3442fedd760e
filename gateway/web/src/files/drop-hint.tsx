/** While something is dragged over a pane: where it would be copied to. */
import { words } from "../words";
import { shownName } from "./shown";

export function DropHint({ folder, title }: { readonly folder: string; readonly title: string }) {
  const text = words.files.drag.hint(shownName(folder), title);
  return (
    <div className="drop-hint" aria-hidden>
      <span>
        {text.before}
        <b>{text.folder}</b>
        {text.after}
      </span>
    </div>
  );
}
