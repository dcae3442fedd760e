/** Sites' titles, short enough for a button, a chip or a mark. */

const MOST_CHARACTERS = 18;

/** `Northfield Synchrotron` → `Northfield`, `University of Northfield` → `Northfield`, `City HPC` as it is. */
export function shortTitle(title: string): string {
  const plain = title.replace(/^(the\s+)?university\s+of\s+(the\s+)?/i, "").trim() || title;
  if (plain.length <= MOST_CHARACTERS) return plain;
  const [first = plain] = plain.split(/\s+/);
  return first;
}

/** Two letters for a site's mark. */
export function initials(title: string): string {
  const words = title.split(/[\s-]+/).filter(Boolean);
  const letters = words.length > 1 ? words.slice(0, 2).map((word) => [...word][0]) : [...title].slice(0, 2);
  return letters.join("").toUpperCase();
}
