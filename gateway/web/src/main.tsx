import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "./styles/index.css";
import { App } from "./app";
import { connection } from "./connection";
import { keepQueriesTrue, queries } from "./queries";
import { ErrorBoundary } from "./shell/error-boundary";
import { LiveRegion } from "./shell/live-region";
import { session } from "./transport";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");

keepQueriesTrue();
void session.start();
window.addEventListener("online", () => {
  connection.checkNow();
  void session.retry();
});

createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <LiveRegion />
      <ErrorBoundary>
        <App />
      </ErrorBoundary>
    </QueryClientProvider>
  </StrictMode>,
);
