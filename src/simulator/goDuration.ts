import { OllamaError } from './errors.js';

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/**
 * A keep-alive as Ollama reads it: seconds as a number (its fraction is cut off), or a Go duration; negative is
 * for ever (`Infinity`). In ms; null when there is none.
 * @throws {OllamaError} 400 with Go's text.
 */
export function keepAliveMs(value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'number') return value < 0 ? Number.POSITIVE_INFINITY : Math.trunc(value) * 1000;
  if (typeof value !== 'string') throw new OllamaError(400, `Unsupported type: '${typeof value}'`);
  const ms = goDurationMs(value);
  return ms < 0 ? Number.POSITIVE_INFINITY : ms;
}

/** Go's longest duration, in ms. */
export const LONGEST_STAY_MS = 2 ** 63 / 1e6;

function goDurationMs(text: string): number {
  const [, sign, rest] = /^([+-]?)(.*)$/.exec(text) ?? [];
  if (rest === '0') return 0;
  const parts = [...(rest ?? '').matchAll(/(\d+\.?\d*|\.\d+)([a-zµ]*)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== rest) {
    throw new OllamaError(400, `time: invalid duration ${JSON.stringify(text)}`);
  }
  let ms = 0;
  for (const [, number, unit] of parts) {
    if (unit === '') throw new OllamaError(400, `time: missing unit in duration ${JSON.stringify(text)}`);
    const unitMs = UNIT_MS[unit ?? ''];
    if (unitMs === undefined) {
      throw new OllamaError(400, `time: unknown unit ${JSON.stringify(unit)} in duration ${JSON.stringify(text)}`);
    }
    ms += Number(number) * unitMs;
  }
  return sign === '-' ? -ms : ms;
}
