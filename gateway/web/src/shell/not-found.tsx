import { Link } from "wouter";
import { words } from "../words";

export function NotFound() {
  return (
    <div className="plain">
      <h1>{words.notFound.heading}</h1>
      <p>{words.notFound.text}</p>
      <Link href="/files" className="btn primary large">
        {words.notFound.home}
      </Link>
    </div>
  );
}
