/** What has been asked of the services and is kept for a while. */
import { QueryClient } from "@tanstack/react-query";
import { connection } from "./connection";
import { describe } from "./failure";
import { session } from "./transport";

const TRIES = 3;

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      networkMode: "always", // the browser's idea of being online says nothing of a gateway next door
      retry: (failures, error) => failures + 1 < TRIES && describe(error).retryable,
    },
    mutations: { networkMode: "always" },
  },
});

/** Joins what is kept to who is signed in and to which services are there. */
export function keepQueriesTrue(): void {
  session.onLeave(() => {
    connection.reset();
    queries.clear();
  });
  connection.onBack(() => {
    void queries.refetchQueries({ predicate: (query) => query.state.error !== null });
  });
}
