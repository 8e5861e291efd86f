/** The services of a scripted host: processes that outlive the agent (law 6), and memory that is slow to come back. */
import { serviceTenant } from '../../src/contracts/names.js';
import type { PhasePolicy, ServicePolicy } from '../../src/contracts/policy.js';

/** `left`: its process has ended, and no sample shows its memory back yet. */
export type ServiceState = 'absent' | 'starting' | 'ready' | 'left';

/** Of the media pipeline (P12), as far as these tests need it: comfyui fits beside vidi only. */
const FIGURES: Record<string, { mb: number; priority: number }> = {
  comfyui: { mb: 20_480, priority: 100 },
  cosyvoice: { mb: 4_096, priority: 50 },
  vidi: { mb: 2_048, priority: 40 },
  server: { mb: 18_432, priority: 10 },
};

/** What goes on by itself is done when it has been looked at so often, also by a successor of the agent. */
const LOOKS = 2;

export class Services {
  /** The processes that were started, oldest first. */
  readonly starts: string[] = [];
  private readonly states = new Map<string, { state: ServiceState; looks: number }>();

  stateOf(name: string): ServiceState {
    return this.states.get(name)?.state ?? 'absent';
  }

  heldMb(name: string): number {
    return this.stateOf(name) === 'absent' ? 0 : (FIGURES[name]?.mb ?? 0);
  }

  /** What is there, by name, and how far it has come: `comfyui ready`. */
  list(): string[] {
    return SERVICES.map(({ name }) => name)
      .filter((name) => this.stateOf(name) !== 'absent')
      .map((name) => `${name} ${this.stateOf(name)}`)
      .sort();
  }

  /** It runs before the test begins. */
  runs(name: string): void {
    this.states.set(name, { state: 'ready', looks: 0 });
  }

  /** Starts its process; one that runs is the answer (law 4). */
  start(name: string): void {
    const state = this.stateOf(name);
    if (state === 'starting' || state === 'ready') return;
    this.starts.push(name);
    this.states.set(name, { state: 'starting', looks: 0 });
  }

  /** Ends its process. */
  stop(name: string): void {
    if (this.stateOf(name) !== 'left') this.states.set(name, { state: 'left', looks: 0 });
  }

  /** Somebody has looked at it. */
  looked(name: string): void {
    const one = this.states.get(name);
    if (one?.state !== 'starting' && one?.state !== 'left') return;
    one.looks += 1;
    if (one.looks >= LOOKS) one.state = one.state === 'left' ? 'absent' : 'ready';
  }
}

export const SERVICES: ServicePolicy[] = Object.entries(FIGURES).map(([name, { mb, priority }]) => ({
  name,
  driver: 'native',
  declaredMb: mb,
  priority,
  pinned: false,
  startTimeoutSeconds: 30,
  stopTimeoutSeconds: 30,
}));

export const PHASES: PhasePolicy[] = [
  { name: 'speech', number: 3, services: [serviceTenant('cosyvoice')] },
  { name: 'video', number: 4, services: [serviceTenant('comfyui')] },
];
