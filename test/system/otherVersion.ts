/** Workflows of another version: their histories have a timer first, which today's do not. */
import { sleep } from '@temporalio/workflow';

export async function gpuHost(): Promise<void> {
  await sleep('1 hour');
}

export async function idleUnload(): Promise<void> {
  await sleep('1 hour');
}
