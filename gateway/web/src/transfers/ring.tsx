/** A small ring that fills. */

const RADIUS = 6.5;
const LENGTH = 2 * Math.PI * RADIUS;

export function Ring({ fraction, label }: { readonly fraction: number; readonly label: string }) {
  return (
    <svg className="ring" width="16" height="16" viewBox="0 0 16 16" role="img" aria-label={label}>
      <circle cx="8" cy="8" r={RADIUS} />
      <circle
        cx="8"
        cy="8"
        r={RADIUS}
        strokeDasharray={LENGTH}
        strokeDashoffset={LENGTH * (1 - fraction)}
        transform="rotate(-90 8 8)"
      />
    </svg>
  );
}
