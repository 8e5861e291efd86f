import { randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** The token file cannot be used; the message says what to do. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
}

const MIN_LENGTH = 16;

/** Reads the token of the agent's endpoint. @throws TokenError */
export function readToken(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new TokenError(
      code === 'ENOENT'
        ? `there is no token file ${path}: the agent writes it at its first start; is it running (vramflow up)?`
        : `the token file ${path} cannot be read (${code}): its owner must be the user who runs vramflow`,
    );
  }
  if (text.length < MIN_LENGTH) {
    throw new TokenError(`the token file ${path} holds no token: delete it, and start the agent again`);
  }
  return text;
}

/** Reads the token, or makes one that only its owner can read. @throws TokenError */
export function ensureToken(path: string): string {
  mkdirSync(dirname(path), { recursive: true });
  try {
    writeFileSync(path, `${randomBytes(32).toString('hex')}\n`, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
  const { mode } = statSync(path);
  if ((mode & 0o077) !== 0) throw new TokenError(`others can read the token file ${path}: chmod 600 ${path}`);
  return readToken(path);
}

export function isToken(given: string, token: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(token);
  return a.length === b.length && timingSafeEqual(a, b);
}
