/** What is shown while nobody can say who is in front of the page. */
import { CloudOff, LoaderCircle } from "lucide-react";
import type { Problem } from "../failure";
import { session } from "../transport";
import { words } from "../words";
import { useTitle } from "./title";

export function Starting() {
  useTitle(words.brand);
  return (
    <main id="main" className="plain late" aria-busy="true">
      <LoaderCircle className="spin dim" size={22} aria-hidden />
      <p role="status">{words.loading}</p>
    </main>
  );
}

/** The services are away. That is not the same as being signed out, and it passes. */
export function Away({ problem, trying }: { problem: Problem; trying: boolean }) {
  const heading = headingOf(problem);
  useTitle(heading);
  return (
    <main id="main" className="plain">
      <CloudOff className="dim" size={28} aria-hidden />
      <h1>{heading}</h1>
      <p role="status">
        {problem.service ? "" : `${problem.message} `}
        {words.away.notSignedOut}
      </p>
      <button type="button" className="btn large" disabled={trying} onClick={() => void session.retry()}>
        {trying ? words.away.tryingNow : words.away.tryNow}
      </button>
    </main>
  );
}

function headingOf({ service }: Problem): string {
  if (service === undefined) return words.away.unclear;
  return service === "gateway" ? words.away.title : words.away.notReachable(service);
}
