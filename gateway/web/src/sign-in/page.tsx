/** Signing in to Wherry. */
import { CircleAlert, Eye, EyeOff, Info } from "lucide-react";
import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import { Brand } from "../shell/brand";
import { ThemeToggle } from "../shell/theme-toggle";
import { useTitle } from "../shell/title";
import { session } from "../transport";
import { words } from "../words";
import { explained, type Refusal } from "./explained";

export function SignInPage({ ended }: { ended: boolean }) {
  useTitle(words.signIn.page);
  const [refusal, setRefusal] = useState<Refusal>();
  const [busy, setBusy] = useState(false);
  const [visible, setVisible] = useState(false);
  const email = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);
  const ids = { email: useId(), password: useId(), error: useId() };

  useEffect(() => email.current?.focus(), []);

  const refuse = (why: Refusal) => {
    setRefusal(why);
    (why.field === "email" ? email : password).current?.select();
  };

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    const address = email.current?.value.trim() ?? "";
    const secret = password.current?.value ?? "";
    if (!address) return refuse({ text: words.signIn.needEmail, field: "email" });
    if (!secret) return refuse({ text: words.signIn.needPassword, field: "password" });
    setBusy(true);
    try {
      await session.signIn(address, secret);
    } catch (error) {
      setBusy(false);
      refuse(explained(error));
    }
  };

  const aboutField = (field: Refusal["field"]) =>
    refusal?.field === field ? { "aria-invalid": true, "aria-describedby": ids.error } : {};

  return (
    <div className="sign-in">
      <header className="sign-in-top">
        <Brand />
        <span className="grow" />
        <ThemeToggle />
      </header>
      <main id="main" className="sign-in-card">
        <h1>{words.signIn.heading}</h1>
        <p>{words.signIn.intro}</p>
        {ended && !refusal && (
          <div className="note" role="status">
            <Info size={15} aria-hidden />
            {words.signIn.ended}
          </div>
        )}
        <form noValidate onSubmit={(event) => void submit(event)}>
          {/* It stands there from the beginning, so that what comes into it is read out. */}
          <div role="alert" id={ids.error}>
            {refusal && (
              <div className="note" data-kind="error">
                <CircleAlert size={15} aria-hidden />
                {refusal.text}
              </div>
            )}
          </div>
          <div className="field">
            <label htmlFor={ids.email}>{words.signIn.email}</label>
            <input
              id={ids.email}
              ref={email}
              name="email"
              type="email"
              autoComplete="username"
              autoCapitalize="none"
              spellCheck={false}
              maxLength={254}
              {...aboutField("email")}
            />
          </div>
          <div className="field">
            <label htmlFor={ids.password}>{words.signIn.password}</label>
            <div className="field-with-button">
              <input
                id={ids.password}
                ref={password}
                name="password"
                type={visible ? "text" : "password"}
                autoComplete="current-password"
                maxLength={1024}
                {...aboutField("password")}
              />
              <button
                type="button"
                className="icon-btn"
                aria-label={visible ? words.signIn.hidePassword : words.signIn.showPassword}
                aria-pressed={visible}
                onClick={() => setVisible(!visible)}
              >
                {visible ? <EyeOff size={16} aria-hidden /> : <Eye size={16} aria-hidden />}
              </button>
            </div>
          </div>
          <button type="submit" className="btn primary large" aria-disabled={busy}>
            {busy ? words.signIn.submitting : words.signIn.submit}
          </button>
        </form>
      </main>
    </div>
  );
}
