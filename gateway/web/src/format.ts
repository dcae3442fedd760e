/** Numbers, sizes and times as people read them; decimal units, as storage is sold and GridFTP is measured. */

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB", "EB"] as const;
const LOCALE = "en-GB";

/** `1.5 GB` */
export function bytes(size: number | bigint): string {
  let amount = Number(size);
  let unit = 0;
  // 999,500 would be rounded to 1000 KB.
  while (amount >= (unit === 0 ? 1000 : 999.5) && unit < UNITS.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || amount >= 99.95 ? 0 : 1;
  return `${amount.toFixed(digits)} ${UNITS[unit]}`;
}

/** `1.5 GB/s` */
export function rate(bytesPerSecond: number): string {
  return `${bytes(bytesPerSecond)}/s`;
}

/** `12,345` */
export function count(n: number | bigint): string {
  return n.toLocaleString(LOCALE);
}

/** `1 file`, `2 files` */
export function plural(n: number | bigint, one: string, many = `${one}s`): string {
  return `${count(n)} ${Number(n) === 1 ? one : many}`;
}

/** How long something takes or is left: `12 s`, `5 min`, `1 h 05 m`, `2 d 3 h`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${String(minutes % 60).padStart(2, "0")} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const recent = new Intl.DateTimeFormat(LOCALE, { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
const older = new Intl.DateTimeFormat(LOCALE, { day: "2-digit", month: "short", year: "numeric" });

/** `21 Nov 12:00` in this year, `21 Nov 2024` in others; in the reader's time zone. */
export function when(ms: number, now = Date.now()): string {
  const thisYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return (thisYear ? recent : older).format(ms).replace(",", "").replace("Sept", "Sep");
}

/** `drwxr-xr-x`; the setuid, setgid and sticky bits as `ls` shows them. */
export function mode(bits: number, directory: boolean): string {
  const special = [
    [0o4000, 2, "s"],
    [0o2000, 5, "s"],
    [0o1000, 8, "t"],
  ] as const;
  const letters = [..."rwxrwxrwx"].map((letter, i) => (bits & (1 << (8 - i)) ? letter : "-"));
  for (const [bit, at, letter] of special)
    if (bits & bit) letters[at] = letters[at] === "-" ? letter.toUpperCase() : letter;
  return (directory ? "d" : "-") + letters.join("");
}
