import { readFileSync } from 'node:fs';
import { number, object, optional, text } from './adminInput.js';
import { BadRequest } from './errors.js';

/** A native service that can be played. Times in simulated ms. */
export interface ServiceProgram {
  readonly name: string;
  /** Held once it is up. */
  readonly vramMb: number;
  /** Held from the first request to its page /work on; null: no more than before. */
  readonly peakMb: number | null;
  readonly bootMs: number;
  /** From SIGTERM to its end. */
  readonly stopMs: number;
  /** Its page on loopback, which is there once it is up. */
  readonly health: { readonly port: number; readonly path: string } | null;
}

export interface ServicesFile {
  readonly programs: readonly ServiceProgram[];
}

/** @throws {BadRequest} for a file that is none; keys that are not known here are left to others. */
export function readServicesFile(path: string): ServicesFile {
  try {
    return parseServicesFile(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new BadRequest(`${path}: ${(error as Error).message}`);
  }
}

export function parseServicesFile(content: unknown): ServicesFile {
  const { programs = [] } = object(content);
  if (!Array.isArray(programs)) throw new BadRequest("'programs' must be a list");
  const parsed = programs.map(parseProgram);
  const twice = parsed.find(({ name }, i) => parsed.findIndex((other) => other.name === name) !== i);
  if (twice !== undefined) throw new BadRequest(`program '${twice.name}' is there twice`);
  return { programs: parsed };
}

function parseProgram(content: unknown): ServiceProgram {
  const program = object(content);
  const health = optional(program, 'health', (body, key) => {
    const page = object(body[key]);
    return { port: number(page, 'port'), path: text(page, 'path') };
  });
  return {
    name: text(program, 'name'),
    vramMb: number(program, 'vramMb'),
    peakMb: optional(program, 'peakMb', number),
    bootMs: number(program, 'bootMs'),
    stopMs: number(program, 'stopMs'),
    health,
  };
}
