import type { GpuHost, GpuProcess } from './gpuHost.js';
import type { HolderKind } from './record.js';

/** A live process of an earlier run of the simulator has this long to connect again, in real ms, as it is real. */
const RECONNECT_MS = 5000;

/** Real processes of one kind that hold simulated memory for as long as they are connected. */
export class RealProcesses {
  readonly #kind: HolderKind;
  readonly #gpuHost: GpuHost;
  readonly #connected = new Set<number>();

  constructor(kind: HolderKind, gpuHost: GpuHost) {
    this.#kind = kind;
    this.#gpuHost = gpuHost;
  }

  /** The process with this id: what it holds from before it connected again is still its own. */
  connect(pid: number, name: string): GpuProcess {
    const known = this.#living.find((process) => process.pid === pid);
    const connected = known ?? this.#gpuHost.startProcess(this.#kind, name, pid);
    this.#connected.add(pid);
    return connected;
  }

  /** Its connection has ended, and so has it. */
  disconnect(process: GpuProcess): void {
    this.#connected.delete(process.pid);
    void this.#gpuHost.end(process);
  }

  /** Looks after those of an earlier run: the dead are freed at once, the living must connect again. */
  superviseRestored(): void {
    for (const process of this.#living) {
      if (!isAlive(process.pid)) void this.#gpuHost.end(process);
      else setTimeout(() => this.#connected.has(process.pid) || this.disconnect(process), RECONNECT_MS).unref();
    }
  }

  get #living(): GpuProcess[] {
    return this.#gpuHost.processes.filter(({ kind, ended }) => kind === this.#kind && !ended);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
