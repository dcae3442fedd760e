/**
 * Which services are away. Found out from the calls that the page makes anyway: one that fails is checked at once, and
 * checked again by itself until the service answers.
 */
import type { Interceptor } from "@connectrpc/connect";
import { useSyncExternalStore } from "react";
import { awayAfter, describe, isCancelled, isUnauthenticated, type Service } from "./failure";

/** Asks a service for something small; fails if it is away. */
export type Probe = () => Promise<unknown>;

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;
const NONE: readonly Service[] = [];

export class Connection {
  #away: readonly Service[] = NONE;
  #probes: Partial<Record<Service, Probe>> = {};
  readonly #checking = new Set<Service>();
  readonly #wake = new Set<() => void>();
  readonly #listeners = new Set<() => void>();
  readonly #backs = new Set<(service: Service) => void>();
  #generation = 0;

  /** The services that are away; the same array while nothing changes. */
  get away(): readonly Service[] {
    return this.#away;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Calls back when a service is there again: what failed meanwhile may be asked for again. */
  onBack(back: (service: Service) => void): () => void {
    this.#backs.add(back);
    return () => this.#backs.delete(back);
  }

  /** Sets how services are asked whether they are there. */
  probeWith(probes: Partial<Record<Service, Probe>>): void {
    this.#probes = probes;
  }

  /** Checks at once what is away: the network may be back. */
  checkNow(): void {
    for (const wake of this.#wake) wake();
  }

  /** Forgets what is away, and stops checking. */
  reset(): void {
    this.#generation += 1;
    this.#checking.clear();
    this.checkNow();
    this.#set(NONE);
  }

  /** An interceptor that sees how every call goes, streams to their ends. */
  watching(): Interceptor {
    return (next) => async (request) => {
      const service = serviceOf(request.service.typeName);
      try {
        const response = await next(request);
        if (!response.stream) {
          this.#answered(service);
          return response;
        }
        return { ...response, message: this.#watched(response.message, service) };
      } catch (error) {
        this.#failed(error, service);
        throw error;
      }
    };
  }

  async *#watched<T>(messages: AsyncIterable<T>, service: Service): AsyncGenerator<T> {
    try {
      for await (const message of messages) {
        this.#answered(service);
        yield message;
      }
    } catch (error) {
      this.#failed(error, service);
      throw error;
    }
  }

  #answered(service: Service): void {
    this.#back([service, "gateway"]);
  }

  #failed(error: unknown, service: Service): void {
    if (isCancelled(error)) return;
    const away = awayAfter(error, service);
    if (away !== undefined) {
      if (away !== "gateway") this.#back(["gateway"]);
      void this.#check(away === "gateway" ? service : away, away);
    } else if (describe(error).reason !== "DEADLINE_EXCEEDED") {
      // It was answered: by the service itself, or, where a token is wanted, by the gateway alone.
      this.#back(isUnauthenticated(error) ? ["gateway"] : [service, "gateway"]);
    }
  }

  /** Asks a service until it answers; from its second failure on it counts as away. */
  async #check(asked: Service, blamed: Service): Promise<void> {
    const probe = this.#probes[asked] ?? this.#probes[blamed];
    if (!probe || this.#checking.has(asked)) return;
    const generation = this.#generation;
    this.#checking.add(asked);
    let wait = FIRST_RETRY_MS;
    let found: Service | undefined = blamed;
    while (generation === this.#generation) {
      try {
        await probe();
        found = undefined;
      } catch (error) {
        found = awayAfter(error, asked);
      }
      if (generation !== this.#generation) return;
      if (found !== undefined) this.#gone(found);
      else if (!this.#away.includes(asked) && !this.#away.includes("gateway")) break;
      await this.#pause(wait);
      wait = Math.min(wait * 2, LAST_RETRY_MS);
    }
    if (generation === this.#generation) this.#checking.delete(asked);
  }

  #gone(service: Service): void {
    if (!this.#away.includes(service)) this.#set([...this.#away, service]);
  }

  #back(services: readonly Service[]): void {
    if (this.#away.length === 0) return;
    const returned = this.#away.filter((service) => services.includes(service));
    if (returned.length === 0) return;
    this.#set(this.#away.filter((service) => !services.includes(service)));
    for (const service of returned) for (const back of this.#backs) back(service);
  }

  #set(away: readonly Service[]): void {
    if (away.length === 0 && this.#away.length === 0) return;
    this.#away = away.length === 0 ? NONE : away;
    for (const listener of this.#listeners) listener();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#wake.add(done);
    });
  }
}

function serviceOf(typeName: string): Service {
  const part = typeName.split(".")[1];
  return part === "user" || part === "site" || part === "queue" ? part : "gateway";
}

/** The page's one. */
export const connection = new Connection();

/** The services that are away just now; the same array while nothing changes. */
export function useAway(): readonly Service[] {
  return useSyncExternalStore(connection.subscribe, () => connection.away);
}
