/** Signing in at a site, inside the pane that wants to show it. */
import { useQueryClient } from "@tanstack/react-query";
import { LockKeyhole } from "lucide-react";
import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import { announce } from "../announce";
import { describe } from "../failure";
import { when } from "../format";
import type { Site, SiteSession } from "../gen/wherry/site/v1/site_service_pb";
import { words } from "../words";
import { LIFETIMES, lifetimeLabel, USUAL_LIFETIME_S } from "./lifetime";
import type { Notice } from "./notice";
import { explainSignIn, type SignInFailure } from "./sign-in-failure";
import { endsMs, signInAt, titleOf } from "./sites";

export interface SiteSignInProps {
  readonly site: Site;
  /** Why it is asked for: for the first time, because the last sign-in has ended, or to renew it before it does. */
  readonly occasion: "first" | "lapsed" | "renew";
  readonly username: string;
  readonly onDone: (notice: Notice) => void;
  /** Only where there is something to go back to. */
  readonly onBack: (() => void) | undefined;
}

export function SiteSignIn({ site, occasion, username, onDone, onBack }: SiteSignInProps) {
  const id = useId();
  const queries = useQueryClient();
  const [failure, setFailure] = useState<SignInFailure>();
  const [busy, setBusy] = useState(false);
  // The password is never in a state: it stays in its box, and leaves it for the one call.
  const form = useRef<HTMLFormElement>(null);
  const title = titleOf(site);
  const text = words.files.signIn;

  useEffect(() => {
    if (occasion === "renew" && form.current) boxesOf(form.current).password.focus();
  }, [occasion]);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const boxes = form.current && boxesOf(form.current);
    if (!boxes || busy) return;
    const missing = missingIn(boxes);
    setFailure(missing);
    if (missing) {
      boxes[missing.field === "username" ? "username" : "password"].focus();
      return;
    }
    const lifetimeS = Number(boxes.lifetime.value);
    const values = { username: boxes.username.value.trim(), password: boxes.password.value };
    setBusy(true);
    try {
      const session = await signInAt(queries, { site: site.name, lifetimeS, ...values });
      onDone(doneNotice(session, title, lifetimeS));
    } catch (error) {
      const explained = explainSignIn(describe(error), { title, address: site.authAddress });
      setFailure(explained);
      announce(explained.what);
      boxes[explained.field ?? "password"].focus();
    } finally {
      values.password = "";
      boxes.password.value = "";
      setBusy(false);
    }
  };

  const problem = (field: SignInFailure["field"]) => (failure?.field === field ? failureId : undefined);
  const failureId = failure && `${id}-failure`;
  return (
    <div className="signin-scroller">
      <form ref={form} className="signin" aria-labelledby={`${id}-title`} onSubmit={submit} noValidate>
        <div className="signin-head">
          <span className="signin-icon" aria-hidden>
            <LockKeyhole size={20} />
          </span>
          <h2 id={`${id}-title`}>{occasion === "first" ? text.heading(title) : text.again(title)}</h2>
        </div>
        <p className="signin-intro">
          {occasion === "lapsed" ? text.lapsed : text.intro} {text.where}{" "}
          <strong className="mono">{site.authAddress}</strong> {text.whereAfter}
        </p>
        {failure && (
          <div className="note" data-kind="error" role="alert" id={failureId} data-reason={failure.reason}>
            <span>
              <strong>{failure.what}</strong> {failure.help}
            </span>
          </div>
        )}
        <div className="field">
          <label htmlFor={`${id}-u`}>{text.username}</label>
          <input
            id={`${id}-u`}
            name="username"
            autoComplete={`section-${site.name.replace("/", "-")} username`}
            autoCapitalize="none"
            spellCheck={false}
            maxLength={256}
            defaultValue={username}
            aria-invalid={failure?.field === "username" || undefined}
            aria-describedby={problem("username")}
          />
        </div>
        <div className="field">
          <label htmlFor={`${id}-p`}>{text.password}</label>
          <input
            id={`${id}-p`}
            name="password"
            type="password"
            autoComplete={`section-${site.name.replace("/", "-")} current-password`}
            maxLength={1024}
            aria-invalid={failure?.field === "password" || undefined}
            aria-describedby={problem("password")}
          />
        </div>
        <div className="field">
          <label htmlFor={`${id}-l`}>{text.lifetime}</label>
          <select id={`${id}-l`} name="lifetime" defaultValue={USUAL_LIFETIME_S} aria-describedby={problem("lifetime")}>
            {LIFETIMES.map(({ seconds, label }) => (
              <option key={seconds} value={seconds}>
                {label}
              </option>
            ))}
          </select>
        </div>
        <button type="submit" className="btn primary large" aria-disabled={busy || undefined}>
          {busy ? text.submitting : text.submit}
        </button>
        {onBack && (
          <button type="button" className="btn ghost" onClick={onBack}>
            {text.back}
          </button>
        )}
      </form>
    </div>
  );
}

interface Boxes {
  readonly username: HTMLInputElement;
  readonly password: HTMLInputElement;
  readonly lifetime: HTMLSelectElement;
}

function boxesOf(form: HTMLFormElement): Boxes {
  const box = (name: string) => form.elements.namedItem(name);
  return {
    username: box("username") as HTMLInputElement,
    password: box("password") as HTMLInputElement,
    lifetime: box("lifetime") as HTMLSelectElement,
  };
}

function missingIn({ username, password }: Boxes): SignInFailure | undefined {
  const text = words.files.signIn;
  if (username.value.trim() === "") return { reason: "MISSING", what: text.needUsername, field: "username" };
  if (password.value === "") return { reason: "MISSING", what: text.needPassword, field: "password" };
  return undefined;
}

function doneNotice(session: SiteSession, title: string, askedS: number): Notice {
  const until = when(endsMs(session));
  const text = words.files.signIn;
  if (!session.lifetimeShortened) return { kind: "info", what: text.done(title, until) };
  return { kind: "warn", what: text.shortened(title, until, lifetimeLabel(askedS)) };
}
