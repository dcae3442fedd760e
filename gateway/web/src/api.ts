/** The services, typed as in the contracts. Calls go through the session: it renews itself and repeats what was refused. */
import { createClient } from "@connectrpc/connect";
import { connection } from "./connection";
import { FileService } from "./gen/wherry/queue/v1/file_service_pb";
import { JobService } from "./gen/wherry/queue/v1/job_service_pb";
import { SiteService, SiteSessionService } from "./gen/wherry/site/v1/site_service_pb";
import { KeyService, SessionService, UserService } from "./gen/wherry/user/v1/user_service_pb";
import { session, transport } from "./transport";

export const users = createClient(UserService, transport);
export const sessions = createClient(SessionService, transport);
export const sites = createClient(SiteService, transport);
export const siteSessions = createClient(SiteSessionService, transport);
export const jobs = createClient(JobService, transport);
export const files = createClient(FileService, transport);

const keys = createClient(KeyService, transport);
const askUser = () => (session.state.kind === "signed-in" ? users.getUser({ name: "users/me" }) : keys.getJwks({}));
connection.probeWith({
  user: askUser,
  gateway: askUser,
  site: () => sites.listSites({ pageSize: 1 }),
  queue: () => jobs.listJobs({ pageSize: 1 }),
});
