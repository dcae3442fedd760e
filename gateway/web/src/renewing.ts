/** Calls that are refused because their token has run out are repeated with a new one; callers do not notice. */
import type { Interceptor, StreamRequest, StreamResponse } from "@connectrpc/connect";
import { SessionService, UserService } from "./gen/wherry/user/v1/user_service_pb";
import type { Session } from "./session";

/** What anybody may call: a refusal there says nothing of the session. */
const OPEN = new Set<unknown>([
  SessionService.method.createSession,
  SessionService.method.refreshSession,
  UserService.method.createUser,
  UserService.method.verifyEmail,
  UserService.method.resendVerification,
]);

type Streaming = (request: StreamRequest) => Promise<StreamResponse>;

/** An interceptor that renews and repeats; a stream until its first message has come. */
export function renewing(session: Pick<Session, "attempt">): Interceptor {
  return (next) => async (request) => {
    if (OPEN.has(request.method)) return next(request);
    if (!request.stream) return session.attempt(() => next(request));
    const messages = await all(request.message); // they can be read only once, and may be needed twice
    return session.attempt(() => begun(next as Streaming, { ...request, message: from(messages) }));
  };
}

/** Makes a streaming call and waits for its first message. */
async function begun(next: Streaming, request: StreamRequest): Promise<StreamResponse> {
  const response = await next(request);
  const rest = response.message[Symbol.asyncIterator]();
  const first = await rest.next();
  return { ...response, message: resumed(first, rest) };
}

async function* resumed<T>(first: IteratorResult<T>, rest: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    for (let result = first; !result.done; result = await rest.next()) yield result.value;
  } finally {
    await rest.return?.(); // who stops reading ends the call
  }
}

async function all<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const message of messages) found.push(message);
  return found;
}

async function* from<T>(messages: readonly T[]): AsyncGenerator<T> {
  yield* messages;
}
