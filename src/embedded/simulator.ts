/** The simulated host as a process of its own: it outlives what manages it, as hardware does. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { z } from 'zod';

import { lastLines, markerOf, readRecord, startDetached, writeRecord } from './detached.js';
import { EmbeddedServerError } from './errors.js';
import { withLock } from './lock.js';
import { endProcess, findByMarker, identitySchema, lives } from './processProof.js';

const PART = 'simulator';
const READY_MS = 20_000;

/** What the simulator prints when it is up: where its parts are. */
const endpointsSchema = z.object({
  admin: z.string(),
  ollama: z.string(),
  /** The socket of the simulated Docker daemon. */
  docker: z.string(),
  /** The program that stands for nvidia-smi, and its first arguments. */
  nvidiaSmi: z.array(z.string()).min(1),
  /** The program that stands for the embedder. */
  embedder: z.array(z.string()).min(1),
  /** The program that stands for any native service; `--name <program>` says for which. */
  service: z.array(z.string()).min(1),
});

export type SimulatorEndpoints = z.infer<typeof endpointsSchema>;

const recordSchema = z.object({
  process: identitySchema.nullable(),
  preset: z.string(),
  /** What it was told to play, as text. */
  services: z.string().nullable(),
  endpoints: endpointsSchema,
});

const recordFile = (dataFolder: string) => join(dataFolder, 'simulator.json');

export interface SimulatorOptions {
  dataFolder: string;
  preset: string;
  /** The content of its file of services; null: none. */
  services: object | null;
  /** Program and arguments before the simulator's own: `[node, dist/simulator/main.js]`. */
  command: readonly [string, ...string[]];
  say: (line: string) => void;
  signal: AbortSignal;
}

/**
 * The running simulator of this data folder, started when there is none, or when another preset is asked for.
 * @throws EmbeddedServerError `died`, `not-ready`
 */
export async function ensureSimulator(options: SimulatorOptions): Promise<SimulatorEndpoints> {
  const { dataFolder, preset, say, signal } = options;
  const file = recordFile(dataFolder);
  return withLock(file, { timeoutMs: READY_MS * 2, signal }, async () => {
    const record = await readRecord(file, recordSchema);
    const services = options.services === null ? null : JSON.stringify(options.services);
    const isSame = record?.preset === preset && record.services === services;
    if (record?.process != null && isSame && (await lives(record.process))) {
      say(`SIMULATED: the host "${preset}" runs already.`);
      return record.endpoints;
    }
    await endOwn(dataFolder);
    say(`SIMULATED: starting the host "${preset}".`);
    const logFile = join(dataFolder, 'simulator.log');
    const [command, ...args] = options.command;
    const servicesFile = join(dataFolder, 'simulator-services.json');
    if (services !== null) await writeFile(servicesFile, services);
    const detached = await startDetached({
      command,
      args: [
        ...args,
        '--preset',
        preset,
        '--state-file',
        join(dataFolder, `simulator-${preset}.state.json`),
        ...(services === null ? [] : ['--services', servicesFile]),
      ],
      marker: markerOf(dataFolder, PART),
      logFile,
    });
    let ended = false;
    void detached.exited.then(() => {
      ended = true;
    });
    const endpoints = await printedEndpoints(logFile, detached.logOffset, () => ended, signal);
    await writeRecord(file, { process: detached.identity, preset, services, endpoints });
    return endpoints;
  });
}

/** Ends the simulator of this data folder, by proof. @returns whether one ran */
export function stopSimulator(dataFolder: string): Promise<boolean> {
  return withLock(recordFile(dataFolder), { timeoutMs: READY_MS * 2 }, () => endOwn(dataFolder));
}

async function endOwn(dataFolder: string): Promise<boolean> {
  const found = await findByMarker(markerOf(dataFolder, PART));
  for (const identity of found) await endProcess(identity, 5_000);
  return found.length > 0;
}

async function printedEndpoints(
  logFile: string,
  offset: number,
  ended: () => boolean,
  signal: AbortSignal,
): Promise<SimulatorEndpoints> {
  const until = Date.now() + READY_MS;
  for (;;) {
    signal.throwIfAborted();
    const lines = await lastLines(logFile, 200, offset);
    const endpoints = lines.map(parseEndpoints).find((parsed) => parsed !== null);
    if (endpoints != null) return endpoints;
    if (ended() || Date.now() >= until) {
      const what = ended() ? 'ended at its start' : `printed no endpoints in ${READY_MS} ms`;
      const kind = ended() ? 'died' : 'not-ready';
      const shown = lines.slice(-8).map((line) => `\n  ${line}`);
      throw new EmbeddedServerError(kind, `The simulator ${what}.${shown.join('')}`, `The whole log: ${logFile}`);
    }
    await delay(50);
  }
}

function parseEndpoints(line: string): SimulatorEndpoints | null {
  if (!line.startsWith('{')) return null;
  try {
    return endpointsSchema.parse(JSON.parse(line));
  } catch {
    // Another line of its log.
    return null;
  }
}
