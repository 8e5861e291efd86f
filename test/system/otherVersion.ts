/** A `gpuHost` of another version: its history has a timer first, which today's does not. */
import { sleep } from '@temporalio/workflow';

export async function gpuHost(): Promise<void> {
  await sleep('1 hour');
}
