import { InvalidArgumentError } from 'commander';

const MS_OF: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** The longest that a timer can be set to, about 24 days. */
const MOST_MS = 2 ** 31 - 1;

/** `90`, `90s`, `10m`, `2h` in ms; without a unit these are seconds. @throws InvalidArgumentError */
export function duration(text: string): number {
  const [, figure = '', unit = 's'] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text.trim()) ?? [];
  const ms = Number(figure) * (MS_OF[unit] ?? 1);
  if (figure !== '' && ms <= MOST_MS) return ms;
  throw new InvalidArgumentError('Give a time such as 30s, 10m or 2h.');
}

/** `0.5 s`, `30 s`, `10 min`, `2 h`: the largest unit that is whole, for people. */
export function describeDuration(ms: number): string {
  if (ms >= 3_600_000 && ms % 3_600_000 === 0) return `${ms / 3_600_000} h`;
  if (ms >= 60_000 && ms % 60_000 === 0) return `${ms / 60_000} min`;
  return `${Number((ms / 1_000).toFixed(1))} s`;
}
