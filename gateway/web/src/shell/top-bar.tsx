import { Link, useLocation } from "wouter";
import type { User } from "../gen/wherry/user/v1/user_service_pb";
import { words } from "../words";
import { AccountMenu } from "./account-menu";
import { Brand } from "./brand";
import { ThemeToggle } from "./theme-toggle";

const SCREENS = [{ path: "/files", name: words.shell.files }] as const;

export function TopBar({ user, onSignOut }: { user: User; onSignOut: () => void }) {
  const [location] = useLocation();
  return (
    <header className="top">
      <Brand />
      <nav className="nav" aria-label={words.shell.screens}>
        {SCREENS.map(({ path, name }) => (
          <Link key={path} href={path} aria-current={location === path ? "page" : undefined}>
            {name}
          </Link>
        ))}
      </nav>
      <span className="grow" />
      <ThemeToggle />
      <AccountMenu user={user} onSignOut={onSignOut} />
    </header>
  );
}
