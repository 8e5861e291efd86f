import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { SimulatorInfo } from '../../src/simulator/simulator.js';

const ROOT = join(import.meta.dirname, '../..');

/** The simulator's programs are run compiled, as users run them; compiles them when a source is newer. */
export function ensureBuilt(): void {
  const newest = (folder: string, ending: string): number =>
    Math.max(
      0,
      ...readdirSync(join(ROOT, folder))
        .filter((name) => name.endsWith(ending))
        .map((name) => statSync(join(ROOT, folder, name)).mtimeMs),
    );
  const built = statSync(join(ROOT, 'dist/simulator/main.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (built >= newest('src/simulator', '.ts')) return;
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const entries = ['main', 'nvidiaSmi', 'embedder', 'service', 'cli'].map((name) => `src/simulator/${name}.ts`);
  const options =
    '--target es2023 --module nodenext --types node --skipLibCheck --rootDir src --outDir dist --ignoreConfig';
  const { status, stdout } = spawnSync(process.execPath, [compiler, ...options.split(' '), ...entries], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the simulator does not compile:\n${stdout}`);
}

/** A simulator in a process of its own. */
export class SimulatorProcess {
  private constructor(
    readonly info: SimulatorInfo,
    readonly child: ChildProcess,
  ) {}

  static async start(...args: string[]): Promise<SimulatorProcess> {
    const child = spawn(process.execPath, [join(ROOT, 'dist/simulator/main.js'), ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const line = await firstLine(child);
    return new SimulatorProcess(JSON.parse(line) as SimulatorInfo, child);
  }

  async get<T>(path: string): Promise<T> {
    return (await (await fetch(new URL(path, this.info.admin))).json()) as T;
  }

  async post<T>(path: string, body: object): Promise<T> {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(new URL(path, this.info.admin), { method: 'POST', headers, body: JSON.stringify(body) });
    return (await answer.json()) as T;
  }

  /** Ends it and waits until it is gone. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await endOf(this.child, signal);
  }

  /** Runs the simulated nvidia-smi to its end. */
  async nvidiaSmi(...args: string[]): Promise<{ stdout: string; stderr: string; code: number | null }> {
    const child = this.startNvidiaSmi(...args);
    const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
    const [code] = (await once(child, 'close')) as [number | null];
    return { stdout: stdout(), stderr: stderr(), code };
  }

  startNvidiaSmi(...args: string[]) {
    const [command = '', ...prefix] = this.info.nvidiaSmi;
    return spawn(command, [...prefix, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  startEmbedder(socket: string, device: string): ChildProcess {
    const [command = '', ...prefix] = this.info.embedder;
    const args = [...prefix, '--device', device, '--socket', socket, '--model', 'ViT-B-32'];
    return spawn(command, args, { stdio: ['ignore', 'inherit', 'pipe'] });
  }
}

/** Asks over a Unix socket; null when nobody listens there. */
export function ask(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; body: unknown } | null> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path, agent: false }, (answer) => {
      const text = collect(answer);
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text()) as unknown }));
    });
    sent.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(null);
      else reject(error);
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Asks again and again until the answer is as wanted; the test's own time-out bounds it. */
export async function eventually<T>(look: () => Promise<T>, isWanted: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await look();
    if (isWanted(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function endOf(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no output');
  const lines = createInterface({ input: child.stdout });
  const [line] = (await Promise.race([
    once(lines, 'line'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the simulator ended with ${String(code)}`))),
  ])) as [string];
  return line;
}

function collect(stream: NodeJS.ReadableStream | null): () => string {
  let text = '';
  stream?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return () => text;
}
