/** What was just done in a pane, or what went wrong with it. */
import { CircleCheck, TriangleAlert, X } from "lucide-react";
import { words } from "../words";
import type { Notice } from "./notice";

export interface PaneNoticeProps {
  readonly notice: Notice;
  readonly onDismiss: () => void;
}

export function PaneNotice({ notice, onDismiss }: PaneNoticeProps) {
  const { kind, what, who, help, action } = notice;
  return (
    <section className="pane-notice note" data-kind={kind} aria-label={what}>
      {kind === "info" ? <CircleCheck size={15} aria-hidden /> : <TriangleAlert size={15} aria-hidden />}
      <span className="grow">
        <strong>{what}</strong> {[who, help].filter(Boolean).join(" ")}
      </span>
      {action && (
        <button
          type="button"
          className="btn"
          onClick={() => {
            onDismiss();
            action.run();
          }}
        >
          {action.label}
        </button>
      )}
      <button type="button" className="icon-btn small" aria-label={words.files.dismiss} onClick={onDismiss}>
        <X size={14} aria-hidden />
      </button>
    </section>
  );
}
