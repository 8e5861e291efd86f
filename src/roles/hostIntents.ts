import type { Client } from '@temporalio/client';
import { type HostState, QUERY } from '../contracts/messages.js';
import { workflowId } from '../contracts/names.js';
import type { Intents } from '../contracts/operation.js';

const ASK_MS = 1_000;

/**
 * What the host's workflow knows of who wants what, as its next operation will be given it. Null when it does not
 * answer within a second: no server, no control worker, or no such workflow yet.
 */
export async function hostIntents(client: Client | null, host: string): Promise<Intents | null> {
  if (client === null) return null;
  try {
    const state = await client.withDeadline(Date.now() + ASK_MS, () =>
      client.workflow.getHandle(workflowId.gpuHost(host)).query<HostState>(QUERY.hostState),
    );
    return state.intents;
  } catch {
    // Whatever the reason: a preview does without, and says so.
    return null;
  }
}
