import * as Menu from "@radix-ui/react-dropdown-menu";
import { LogOut } from "lucide-react";
import type { User } from "../gen/wherry/user/v1/user_service_pb";
import { words } from "../words";

/** Who is signed in, and what they can do about it. */
export function AccountMenu({ user, onSignOut }: { user: User; onSignOut: () => void }) {
  return (
    // Modal menus lock scrolling with a style element, which the page's security policy refuses.
    <Menu.Root modal={false}>
      <Menu.Trigger className="avatar" title={user.email}>
        <span aria-hidden>{initials(user)}</span>
        <span className="sr">{words.shell.account(user.email)}</span>
      </Menu.Trigger>
      {/* Not in a portal: it belongs to the bar, also for those who go from landmark to landmark. */}
      <Menu.Content className="menu" align="end" sideOffset={12} collisionPadding={8}>
        <Menu.Label className="menu-label">
          {words.shell.signedInAs}
          <strong className="menu-email">{user.email}</strong>
        </Menu.Label>
        <Menu.Separator className="menu-line" />
        <Menu.Item className="menu-item" onSelect={onSignOut}>
          <LogOut size={15} aria-hidden />
          {words.shell.signOut}
        </Menu.Item>
      </Menu.Content>
    </Menu.Root>
  );
}

/** One or two letters, of the name that others see or of the address. */
function initials(user: User): string {
  const local = user.email.split("@")[0] ?? "";
  const parts = (user.displayName || local).split(/[\s._-]+/).filter(Boolean);
  const ends = parts.length > 1 ? [parts[0], parts.at(-1)] : [parts[0]];
  return ends.map((part) => [...(part ?? "?")][0]?.toUpperCase() ?? "").join("");
}
