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

/** A container that exists from the start, stopped; one that is created from its image behaves alike. Times in simulated ms. */
export interface ServiceContainer {
  readonly name: string;
  readonly image: string;
  /** Held once it is up. */
  readonly vramMb: number;
  readonly bootMs: number;
  /** From its stop signal to its end. */
  readonly stopMs: number;
  /** Its page: on this port of loopback, or on those to which a created container publishes it. */
  readonly health: { readonly port: number; readonly path: string } | null;
  /** A HEALTHCHECK, made so often; it passes once the container is up, and fails under the fault container-unhealthy. */
  readonly healthcheckMs: number | null;
  /** `ollama`: the simulated Ollama runs in it. */
  readonly serves: string | null;
}

export interface ServicesFile {
  readonly programs: readonly ServiceProgram[];
  readonly containers: readonly ServiceContainer[];
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
  const { programs = [], containers = [] } = object(content);
  return {
    programs: parseList('program', programs, parseProgram),
    containers: parseList('container', containers, parseContainer),
  };
}

function parseList<T extends { name: string }>(what: string, content: unknown, parse: (one: unknown) => T): T[] {
  if (!Array.isArray(content)) throw new BadRequest(`'${what}s' must be a list`);
  const parsed = content.map(parse);
  const twice = parsed.find(({ name }, i) => parsed.findIndex((other) => other.name === name) !== i);
  if (twice !== undefined) throw new BadRequest(`${what} '${twice.name}' is there twice`);
  return parsed;
}

function parseProgram(content: unknown): ServiceProgram {
  const program = object(content);
  return {
    name: text(program, 'name'),
    vramMb: number(program, 'vramMb'),
    peakMb: optional(program, 'peakMb', number),
    bootMs: number(program, 'bootMs'),
    stopMs: number(program, 'stopMs'),
    health: optional(program, 'health', parsePage),
  };
}

function parseContainer(content: unknown): ServiceContainer {
  const container = object(content);
  return {
    name: text(container, 'name'),
    image: text(container, 'image'),
    vramMb: number(container, 'vramMb'),
    bootMs: number(container, 'bootMs'),
    stopMs: number(container, 'stopMs'),
    health: optional(container, 'health', parsePage),
    healthcheckMs: optional(container, 'healthcheckMs', number),
    serves: optional(container, 'serves', text),
  };
}

function parsePage(body: Record<string, unknown>, key: string): { port: number; path: string } {
  const page = object(body[key]);
  return { port: number(page, 'port'), path: text(page, 'path') };
}
