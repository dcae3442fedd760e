/** Jobs as the queue tells of them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Job, type JobProgressSchema, JobSchema, JobState } from "../../src/gen/wherry/queue/v1/job_service_pb";

export interface JobInit {
  readonly state?: JobState;
  readonly createdMs?: number;
  readonly endedMs?: number;
  /** Destination paths at `sites/b`; the sources have the same names in `/from` at `sites/a`. */
  readonly to?: readonly string[];
  readonly progress?: MessageInitShape<typeof JobProgressSchema>;
  readonly more?: Exclude<MessageInitShape<typeof JobSchema>, Job>;
}

export function job(id: string, init: JobInit = {}): Job {
  const { state = JobState.RUNNING, createdMs = 0, endedMs, to = ["/to/x"], progress, more } = init;
  const items = to.map((path) => ({
    source: { site: "sites/a", path: `/from/${path.split("/").at(-1)}` },
    destination: { site: "sites/b", path },
  }));
  return create(JobSchema, {
    name: `jobs/${id}`,
    state,
    operation: { case: "copy", value: { items, recursive: true } },
    createTime: timestampFromMs(createdMs),
    ...(endedMs !== undefined && { endTime: timestampFromMs(endedMs) }),
    ...(progress && { progress }),
    ...more,
  });
}
