/** The path that a pane shows, each directory of it a way there. */
import { ChevronRight } from "lucide-react";
import { words } from "../words";
import { type Crumb, crumbsOf, ROOT, type SitePath } from "./path";
import { shownName } from "./shown";

/** On a narrow screen only so many directories are shown, from the end. */
const FEW = 2;

export interface CrumbsProps {
  readonly path: SitePath;
  readonly title: string;
  readonly small: boolean;
  readonly disabled: boolean;
  readonly onPath: (path: SitePath) => void;
}

export function Crumbs({ path, title, small, disabled, onPath }: CrumbsProps) {
  const all = crumbsOf(path);
  const shown = small ? all.slice(-FEW) : all;
  return (
    <nav className="crumbs" aria-label={words.files.bar.path(title)}>
      <ol>
        <li>
          <button
            type="button"
            className="crumb"
            disabled={disabled}
            aria-label={words.files.bar.root}
            aria-current={all.length === 0 && path.text !== "" ? "location" : undefined}
            onClick={() => onPath(ROOT)}
          >
            /
          </button>
        </li>
        {shown.length < all.length && (
          <li className="dim" aria-hidden>
            …
          </li>
        )}
        {shown.map((crumb, index) => (
          <CrumbItem
            key={crumb.path.text}
            crumb={crumb}
            isFirst={index === 0 && shown.length === all.length}
            isLast={index === shown.length - 1}
            disabled={disabled}
            onPath={onPath}
          />
        ))}
      </ol>
    </nav>
  );
}

interface CrumbItemProps {
  readonly crumb: Crumb;
  readonly isFirst: boolean;
  readonly isLast: boolean;
  readonly disabled: boolean;
  readonly onPath: (path: SitePath) => void;
}

function CrumbItem({ crumb, isFirst, isLast, disabled, onPath }: CrumbItemProps) {
  return (
    <li>
      {!isFirst && <ChevronRight size={12} className="dim" aria-hidden />}
      <button
        type="button"
        className="crumb"
        disabled={disabled}
        aria-current={isLast ? "location" : undefined}
        onClick={() => onPath(crumb.path)}
      >
        <bdi>{shownName(crumb.label)}</bdi>
      </button>
    </li>
  );
}
