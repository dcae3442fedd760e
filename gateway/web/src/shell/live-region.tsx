import { useEffect, useState } from "react";
import { listen } from "../announce";

/** Where `announce` speaks. The same text twice is two announcements: the elements take turns. */
export function LiveRegion() {
  const [said, setSaid] = useState({ text: "", turn: 0 });
  useEffect(() => listen((text) => setSaid((before) => ({ text, turn: 1 - before.turn }))), []);
  return (
    <div className="sr" role="status" aria-live="polite">
      <span>{said.turn === 0 ? said.text : ""}</span>
      <span>{said.turn === 1 ? said.text : ""}</span>
    </div>
  );
}
