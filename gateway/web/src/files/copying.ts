// What a drop, a paste or a copy button asks for: one job, however many things are selected.

import { create } from "@bufbuild/protobuf";
import {
  CopyItemSchema,
  CopyOperationSchema,
  type CreateJobRequest,
  CreateJobRequestSchema,
  JobSchema,
  OverwritePolicy,
} from "../gen/wherry/queue/v1/job_service_pb";
import { type Location, LocationSchema } from "../gen/wherry/type/v1/entry_pb";
import { childPath, isWithin, type SitePath, samePath } from "./path";
import type { Place } from "./places";
import { isDirectory, type Row } from "./row";

/** The most that one job takes (`CopyOperation.items`). */
export const MOST_ITEMS = 1000;

export interface Copying {
  readonly from: Place;
  readonly to: Place;
  readonly rows: readonly Row[];
}

export type Refusal =
  | { readonly kind: "nothing" }
  | { readonly kind: "tooMany"; readonly count: number }
  | { readonly kind: "samePlace" }
  | { readonly kind: "intoItself"; readonly name: string };

/** Why a copy cannot be asked for, or undefined where it can. The contract refuses these too; here it is told at once. */
export function refusalOf({ from, to, rows }: Copying): Refusal | undefined {
  if (rows.length === 0) return { kind: "nothing" };
  if (rows.length > MOST_ITEMS) return { kind: "tooMany", count: rows.length };
  if (from.site !== to.site) return undefined;
  if (samePath(from.path, to.path)) return { kind: "samePlace" };
  const outer = rows.find((row) => isDirectory(row) && isWithin(to.path, childPath(from.path, row)));
  return outer && { kind: "intoItself", name: outer.name };
}

/** The request for one job that copies everything: each thing to its exact path, and nothing that is there is touched. */
export function copyRequest({ from, to, rows }: Copying, requestId: string): CreateJobRequest {
  const items = rows.map((row) =>
    create(CopyItemSchema, {
      source: locationOf(from.site, childPath(from.path, row)),
      destination: locationOf(to.site, childPath(to.path, row)),
    }),
  );
  const copy = create(CopyOperationSchema, { items, recursive: true, overwrite: OverwritePolicy.NEVER });
  return create(CreateJobRequestSchema, {
    requestId,
    job: create(JobSchema, { operation: { case: "copy", value: copy } }),
  });
}

/** A path as the contract carries it. */
export function locationOf(site: string, path: SitePath): Location {
  return create(LocationSchema, { site, path: path.text, rawPath: path.raw ?? new Uint8Array() });
}
