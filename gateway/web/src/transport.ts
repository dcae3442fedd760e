/** How calls reach the gateway: gRPC-Web, binary, same origin; the session's cookies travel along, unseen by scripts. */
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { connection } from "./connection";
import { renewing } from "./renewing";
import { Session } from "./session";
import { BrowserRecord } from "./session-record";

/** Of calls with one answer. A sign-in at a site takes its server's time. */
const ANSWER_TIMEOUT_MS = 60_000;

function gateway(interceptors: Interceptor[]): Transport {
  const grpcWeb = createGrpcWebTransport({
    baseUrl: window.location.origin,
    useBinaryFormat: true,
    interceptors,
    fetch: (input, init) =>
      fetch(input, {
        ...init,
        credentials: "same-origin",
        // A refresh token works once: the answer must be taken even if the page is left before it comes.
        keepalive: String(input).endsWith("/RefreshSession"),
      }),
  });
  return {
    unary: (method, signal, timeoutMs, header, message, values) =>
      grpcWeb.unary(method, signal, timeoutMs ?? ANSWER_TIMEOUT_MS, header, message, values),
    stream: (...call) => grpcWeb.stream(...call),
  };
}

const watching = connection.watching();

/** Who is signed in, in this browser. */
export const session = new Session(gateway([watching]), new BrowserRecord());

/** For everything else. */
export const transport = gateway([renewing(session), watching]);
