import type { GpuSample } from '../adapters/gpu/reader.js';
import type { Proof } from '../contracts/operation.js';
import type { Agent } from './agent.js';
import { UNATTENDED_PROOF_MS } from './reclaims.js';
import { tell } from './tell.js';
import type { Begun } from './unfinished.js';

/** Added to the proof of what its own attempt could not tell of. */
export const CUT_SHORT = 'its attempt had been cut short';

/**
 * Follows an effect that was carried out but whose attempt was cut short before the memory was proven free: tells of it
 * once a sample proves it. Ends without a word when somebody else has told of it, begun anew, or when it stays unproven.
 * @param how what is added to the proof
 */
export function followProof(agent: Agent, tenant: string, begun: Begun, how: string): void {
  const { reclaims, unfinished } = agent;
  reclaims.gone(tenant, UNATTENDED_PROOF_MS);
  /** True when there is nothing to follow any more. */
  const look = (sample: GpuSample): boolean => {
    if (unfinished.of(tenant)?.id !== begun.id) return true;
    const by = reclaims.proof(tenant);
    if (by !== null) {
      tell(
        agent,
        tenant,
        begun,
        { beforeMb: begun.beforeMb, afterMb: usedMb(sample), reclaimMs: null, by: `${by}; ${how}` },
        null,
      );
      return true;
    }
    if (!reclaims.has(tenant)) {
      // It counts as a stranger's by now.
      unfinished.end(tenant, begun);
      return true;
    }
    return false;
  };
  if (look(agent.sampler.latest())) return;
  const stop = agent.sampler.onSample((sample) => {
    if (look(sample)) stop();
  });
}

const usedMb = ({ gpus }: GpuSample): Proof['afterMb'] => Object.fromEntries(gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));
