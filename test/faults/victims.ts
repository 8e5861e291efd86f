import type { System } from '../system/system.js';

/** What is killed, and brought back as its supervisor would. */
export const VICTIMS = ['agent', 'control', 'both', 'temporal', 'ollama', 'ollama, its runners stay'] as const;
export type Victim = (typeof VICTIMS)[number];

export const isOllama = (victim: Victim): boolean => victim.startsWith('ollama');

/** `kill -9` for processes; the simulated Ollama ends as one that was killed does. */
export async function killAndRestart(system: System, victim: Victim): Promise<void> {
  switch (victim) {
    case 'agent':
      await system.agent?.kill();
      await system.startAgent();
      return;
    case 'control':
      await system.control?.kill();
      system.startControl();
      return;
    case 'both':
      await Promise.all([system.agent?.kill(), system.control?.kill()]);
      system.startControl();
      await system.startAgent();
      return;
    case 'temporal':
      await system.temporal.kill();
      await system.temporal.restart();
      return;
    case 'ollama':
    case 'ollama, its runners stay':
      await system.simulator.ollama.stop(victim !== 'ollama');
      await system.simulator.ollama.start();
  }
}

/** Runners that outlived their server are strangers to it (pain 5): a person ends them. */
export function endOrphans({ simulator: { gpuHost, ollama } }: System): void {
  const served = new Set(ollama.runners.map((runner) => runner.process.holder));
  for (const process of gpuHost.processes) {
    if (process.kind === 'runner' && !process.ended && !served.has(process.holder)) void gpuHost.end(process);
  }
}
