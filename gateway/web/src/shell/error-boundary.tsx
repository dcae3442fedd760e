import { Component, type ReactNode } from "react";
import { words } from "../words";

/** Shows words in place of a part that has broken; the rest of the page goes on. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    if (!this.state.broken) return this.props.children;
    return (
      <div className="plain" role="alert">
        <h1>{words.broken.heading}</h1>
        <p>{words.broken.text}</p>
        <button type="button" className="btn primary large" onClick={() => window.location.reload()}>
          {words.broken.reload}
        </button>
      </div>
    );
  }
}
