// Names and paths are bytes to a site. Most are UTF-8 and travel as text; the others travel as bytes, and the text only
// shows them. Here is the way between the two.

const SLASH = 0x2f;
const strict = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text that the bytes are, or undefined where they are no UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Text that shows the bytes: what is no UTF-8 appears as `\xff`, as the services write it. */
export function shownBytes(bytes: Uint8Array): string {
  const whole = textOf(bytes);
  if (whole !== undefined) return whole;
  let shown = "";
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at] ?? 0;
    const length = sequenceLength(lead);
    const character = length > 0 ? textOf(bytes.subarray(at, at + length)) : undefined;
    if (character === undefined) {
      shown += `\\x${lead.toString(16).padStart(2, "0")}`;
      at += 1;
    } else {
      shown += character;
      at += length;
    }
  }
  return shown;
}

/** How many bytes a UTF-8 character that begins with this byte has; 0 where none does. */
function sequenceLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  if (lead >= 0xf0 && lead < 0xf5) return 4;
  return 0;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The parts of a path between its slashes, empty ones left out. */
export function splitAtSlashes(path: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let from = 0;
  for (let at = 0; at <= path.length; at++) {
    if (at < path.length && path[at] !== SLASH) continue;
    if (at > from) parts.push(path.subarray(from, at));
    from = at + 1;
  }
  return parts;
}

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** URL-safe base64 without padding (RFC 4648, section 5). */
export function base64Url(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** What `base64Url` wrote, or undefined where it is nothing of the sort. */
export function fromBase64Url(text: string): Uint8Array | undefined {
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
