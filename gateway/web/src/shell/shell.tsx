/** What surrounds every screen. */
import { X } from "lucide-react";
import { type ReactNode, useState } from "react";
import { announce } from "../announce";
import { describe } from "../failure";
import type { User } from "../gen/wherry/user/v1/user_service_pb";
import { session } from "../transport";
import { words } from "../words";
import { AwayBanner } from "./away-banner";
import { TopBar } from "./top-bar";

export function Shell({ user, children }: { user: User; children: ReactNode }) {
  const [refusal, setRefusal] = useState("");
  const signOut = async () => {
    setRefusal("");
    try {
      await session.signOut();
      announce(words.shell.signedOut);
    } catch (error) {
      const { service, message } = describe(error);
      setRefusal(words.shell.signOutFailed(service ? `${words.away.notReachable(service)}.` : message));
    }
  };
  return (
    <>
      <a className="skip" href="#main">
        {words.shell.skip}
      </a>
      <TopBar user={user} onSignOut={() => void signOut()} />
      <AwayBanner />
      {refusal && (
        <div className="banner" data-kind="error" role="alert">
          <span className="grow">{refusal}</span>
          <button type="button" className="icon-btn" aria-label={words.close} onClick={() => setRefusal("")}>
            <X size={15} aria-hidden />
          </button>
        </div>
      )}
      {children}
    </>
  );
}
