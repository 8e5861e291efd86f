import type { Client } from '@temporalio/client';
import type { Intents } from '../contracts/operation.js';
import { readHostState } from '../gateway/publishedState.js';

const ASK_MS = 1_000;

/**
 * What the host's workflow knows of who wants what, as its next operation will be given it. Null when the server
 * does not answer within a second, or no such workflow has begun yet.
 */
export async function hostIntents(client: Client | null, host: string): Promise<Intents | null> {
  if (client === null) return null;
  try {
    const state = await client.withDeadline(Date.now() + ASK_MS, () => readHostState(client, host));
    return state?.intents ?? null;
  } catch {
    // Whatever the reason: a preview does without, and says so.
    return null;
  }
}
