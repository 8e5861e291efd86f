import { BadRequest } from './errors.js';

type Body = Record<string, unknown>;

/** The body of an admin request; nothing sent is an empty one. */
export function object(body: unknown): Body {
  if (body === undefined || body === null) return {};
  if (typeof body !== 'object' || Array.isArray(body)) throw new BadRequest('the body must be a JSON object');
  return body as Body;
}

/** A number from 0 up. */
export function number(body: Body, key: string): number {
  const value = body[key];
  if (typeof value !== 'number' || !(value >= 0)) throw new BadRequest(`'${key}' must be a number from 0 up`);
  return value;
}

export function text(body: Body, key: string): string {
  const value = body[key];
  if (typeof value !== 'string' || value === '') throw new BadRequest(`'${key}' must be a text`);
  return value;
}

export function flag(body: Body, key: string): boolean {
  const value = body[key];
  if (typeof value !== 'boolean') throw new BadRequest(`'${key}' must be true or false`);
  return value;
}

export function oneOf<T extends string>(body: Body, key: string, allowed: readonly T[]): T {
  const value = allowed.find((known) => known === body[key]);
  if (value === undefined) throw new BadRequest(`'${key}' must be one of ${allowed.join(', ')}`);
  return value;
}

/** Null when the key is missing or null; else as `read` reads it. */
export function optional<T>(body: Body, key: string, read: (body: Body, key: string) => T): T | null {
  return body[key] === undefined || body[key] === null ? null : read(body, key);
}
