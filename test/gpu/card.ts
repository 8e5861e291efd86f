/** The real GPU of this machine, programs that hold its memory, and an eye on it that is not vramflow's. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type Missing, onPath } from '../parts/parts.js';

export const HOLD_MEMORY = fileURLToPath(new URL('./holdMemory.py', import.meta.url));

export interface Card {
  uuid: string;
  name: string;
  index: number;
  totalMb: number;
}

/** The first GPU that nvidia-smi lists. */
export async function findCard(): Promise<Card | Missing> {
  if ((await onPath('nvidia-smi')) === null)
    return { skip: 'no `nvidia-smi` on the PATH: this machine has no NVIDIA GPU' };
  const query = await execa(
    'nvidia-smi',
    ['--query-gpu=uuid,index,memory.total,name', '--format=csv,noheader,nounits'],
    { reject: false },
  );
  const [uuid, index, totalMb, name] = query.stdout.split('\n')[0]?.split(', ') ?? [];
  if (query.failed || uuid === undefined || name === undefined)
    return { skip: `nvidia-smi shows no GPU: ${query.stdout}` };
  return { uuid, name, index: Number(index), totalMb: Number(totalMb) };
}

export interface Holder {
  pid: number;
  /** Ends it as a crash does. Resolves when it has gone. */
  kill(): Promise<void>;
}

/** A program that has nothing to do with vramflow. Resolves when it holds the memory. */
export async function holdMemory(card: Card, mb: number): Promise<Holder> {
  const child = spawn('python3', [HOLD_MEMORY, String(mb)], {
    env: { ...process.env, CUDA_VISIBLE_DEVICES: card.uuid },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  await Promise.race([
    firstLine(child),
    ended.then(([code]) => Promise.reject(new Error(`holdMemory.py ended with ${String(code)}`))),
  ]);
  return {
    pid: child.pid ?? Number.NaN,
    async kill() {
      process.removeListener('exit', kill);
      kill();
      await ended;
    },
  };
}

export interface Eye {
  /** What is taken at this moment, MB. */
  takenMb(): Promise<number>;
  /** The most that was taken in any look since the last call, MB. */
  peakMb(): number;
  close(): void;
}

/** Looks at the card every 50 ms, by an nvidia-smi of its own. */
export async function watchCard(card: Card): Promise<Eye> {
  const smi = spawn(
    'nvidia-smi',
    ['-i', card.uuid, '--query-gpu=memory.total,memory.free', '--format=csv,noheader,nounits', '-lms', '50'],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  let peak = 0;
  let next: ((mb: number) => void)[] = [];
  createInterface({ input: smi.stdout }).on('line', (line) => {
    const [total = Number.NaN, free = Number.NaN] = line.split(', ').map(Number);
    peak = Math.max(peak, total - free);
    for (const tell of next) tell(total - free);
    next = [];
  });
  const eye: Eye = {
    takenMb: () => new Promise((resolve) => next.push(resolve)),
    peakMb() {
      const seen = peak;
      peak = 0;
      return seen;
    },
    close: () => void smi.kill(),
  };
  await eye.takenMb();
  return eye;
}

/** pid → MB, as nvidia-smi says it. */
export async function processesOf(card: Card): Promise<Map<number, number>> {
  const { stdout } = await execa('nvidia-smi', [
    '-i',
    card.uuid,
    '--query-compute-apps=pid,used_memory',
    '--format=csv,noheader,nounits',
  ]);
  const lines = stdout.split('\n').filter((line) => line !== '');
  return new Map(lines.map((line) => line.split(', ').map(Number) as [number, number]));
}

async function firstLine(child: ChildProcess): Promise<void> {
  const lines = createInterface({ input: child.stdout ?? process.stdin });
  await once(lines, 'line');
}
