/** What is shown to whom. */
import { useSyncExternalStore } from "react";
import { Redirect, Route, Switch } from "wouter";
import FilesPage from "./files/page";
import { NotFound } from "./shell/not-found";
import { Screen } from "./shell/screen";
import { Shell } from "./shell/shell";
import { Away, Starting } from "./shell/waiting";
import { SignInPage } from "./sign-in/page";
import { session } from "./transport";
import { words } from "./words";

const subscribe = (listener: () => void) => session.subscribe(listener);

/** The page. Signing in is shown in place of a screen, at the screen's own address: one comes back to it. */
export function App() {
  const state = useSyncExternalStore(subscribe, () => session.state);
  switch (state.kind) {
    case "starting":
      return <Starting />;
    case "away":
      return <Away problem={state.problem} trying={state.trying} />;
    case "signed-out":
      return <SignInPage ended={state.ended} />;
    case "signed-in":
      return (
        <Shell user={state.user}>
          <Switch>
            <Route path="/">
              <Redirect to="/files" replace />
            </Route>
            <Route path="/files">
              <Screen title={words.shell.files}>
                <FilesPage />
              </Screen>
            </Route>
            <Route>
              <Screen title={words.notFound.page}>
                <NotFound />
              </Screen>
            </Route>
          </Switch>
        </Shell>
      );
  }
}
