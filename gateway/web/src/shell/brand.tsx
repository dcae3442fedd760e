import { ArrowLeftRight } from "lucide-react";
import { words } from "../words";

export function Brand() {
  return (
    <span className="brand">
      <span className="logo" aria-hidden>
        <ArrowLeftRight size={15} strokeWidth={2.4} />
      </span>
      {words.brand}
    </span>
  );
}
