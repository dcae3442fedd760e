/** The files screen where there is no site at all. */
import { Network } from "lucide-react";
import { words } from "../words";

export function NoSites({ onCheck, checking }: { readonly onCheck: () => void; readonly checking: boolean }) {
  const text = words.files.noSites;
  return (
    <div className="no-sites">
      <span className="state-icon" aria-hidden>
        <Network size={30} />
      </span>
      <h2>{text.heading}</h2>
      <p>{text.text}</p>
      <p>{text.how}</p>
      <pre className="mono">
        {text.atSite}
        {"\n"}
        {text.here}
      </pre>
      <button type="button" className="btn" disabled={checking} onClick={onCheck}>
        {text.check}
      </button>
    </div>
  );
}
