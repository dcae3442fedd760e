/** Between the panes: an arrow each way. */
import { ArrowLeft, ArrowRight } from "lucide-react";
import { words } from "../words";
import type { Side } from "./places";

export interface GutterProps {
  readonly canCopy: Readonly<Record<Side, boolean>>;
  readonly onCopy: (from: Side) => void;
}

export function Gutter({ canCopy, onCopy }: GutterProps) {
  const text = words.files.gutter;
  return (
    <div className="gutter">
      <button
        type="button"
        aria-label={text.toRight}
        title={text.toRightHint}
        disabled={!canCopy.left}
        onClick={() => onCopy("left")}
      >
        <ArrowRight size={18} aria-hidden />
      </button>
      <button
        type="button"
        aria-label={text.toLeft}
        title={text.toLeftHint}
        disabled={!canCopy.right}
        onClick={() => onCopy("right")}
      >
        <ArrowLeft size={18} aria-hidden />
      </button>
    </div>
  );
}
