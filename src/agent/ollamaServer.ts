import type { HostPolicy } from '../contracts/policy.js';
import { serverOfOllama } from '../domain/planner/nesting.js';
import type { Services } from './services.js';

/** The service that Ollama runs in, while it cannot be asked to answer. */
export interface OllamaServer {
  service: string;
  state: 'starting' | 'stopping' | 'stopped' | 'failed';
}

/** Null: Ollama should answer. So it should where it runs in none of our services, or nobody can tell (law 1). */
export function ollamaServer(policy: HostPolicy, services: Pick<Services, 'view'>): OllamaServer | null {
  const service = serverOfOllama(policy)?.name;
  if (service === undefined) return null;
  const { sight, health, heldBack } = services.view(service);
  if (sight.state === 'absent') return { service, state: heldBack === null ? 'stopped' : 'failed' };
  const { state } = health;
  return sight.state === 'running' && (state === 'starting' || state === 'stopping') ? { service, state } : null;
}
