import { TriangleAlert } from "lucide-react";
import { useEffect, useRef } from "react";
import { announce } from "../announce";
import { useAway } from "../connection";
import { words } from "../words";

/** Says which service is away and what that means; goes by itself when it is back. */
export function AwayBanner() {
  const away = useAway();
  const wasAway = useRef(false);
  useEffect(() => {
    if (wasAway.current && away.length === 0) announce(words.away.back);
    wasAway.current = away.length > 0;
  }, [away]);
  const shown = away.includes("gateway") ? (["gateway"] as const) : away;
  return (
    <div role="status" className="banners">
      {shown.map((service) => (
        <p key={service} className="banner" data-service={service}>
          <TriangleAlert size={15} aria-hidden />
          <span>
            <strong>{words.away.notReachable(service)}.</strong> {words.away.consequence[service]}{" "}
            {words.away.tryingAgain}
          </span>
        </p>
      ))}
    </div>
  );
}
