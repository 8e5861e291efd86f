import type { GpuSample } from '../adapters/gpu/reader.js';
import type { Proof } from '../contracts/operation.js';
import type { Agent } from './agent.js';
import { tell } from './tell.js';
import type { Begun } from './unfinished.js';

/** Added to the proof of what its own attempt could not tell of. */
export const CUT_SHORT = 'its attempt had been cut short';

/** Memory that has not come back by then is a failed proof, which quarantines the GPU (law 8). */
const PROOF_BOUND_MS = 10_000;

/**
 * Follows an effect that was carried out but whose attempt was cut short before the memory was proven free: tells of it
 * once a sample proves it. Ends without a word when somebody else has told of it, begun anew, or when it stays unproven.
 * @param how what is added to the proof
 */
export function followProof(agent: Agent, tenant: string, begun: Begun, how: string): void {
  const { reclaims, unfinished } = agent;
  const since = agent.now();
  reclaims.gone(tenant);
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
    if (agent.now() - since > PROOF_BOUND_MS) reclaims.fail(tenant);
    return false;
  };
  if (look(agent.sampler.latest())) return;
  const stop = agent.sampler.onSample((sample) => {
    if (look(sample)) stop();
  });
}

const usedMb = ({ gpus }: GpuSample): Proof['afterMb'] => Object.fromEntries(gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));
