/** Names as they may be shown: a file's name is somebody else's text; it must neither break a line nor turn it round. */

const UNSAFE = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

/** The name with control characters and changes of writing direction made visible. */
export function shownName(name: string): string {
  return name.replace(UNSAFE, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
