/** Proof that vramflow's own parts are at work: their workers poll, and the agent answers. */
import { setTimeout as delay } from 'node:timers/promises';

import { Connection } from '@temporalio/client';
import proto, { type temporal } from '@temporalio/proto';

import { CONTROL_QUEUE, hostQueue } from '../contracts/names.js';
import { EmbeddedServerError } from './errors.js';

const KIND = proto.temporal.api.enums.v1.TaskQueueType;

/**
 * @param options.since pollers seen before do not count: they are of a former run
 * @throws EmbeddedServerError `not-ready` that names what is missing; the signal's reason
 */
export async function waitWorking(options: {
  address: string;
  namespace: string;
  host: string;
  /** Where the agent answers HTTP; null while it has not said so. */
  agentUrl: () => Promise<string | null>;
  since: Date;
  timeoutMs: number;
  say: (line: string) => void;
  signal: AbortSignal;
}): Promise<void> {
  const { address, namespace, timeoutMs, signal, since } = options;
  const connection = await Connection.connect({ address });
  const polled = (name: string, taskQueueType: temporal.api.enums.v1.TaskQueueType) => async () => {
    const { pollers } = await connection.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name },
      taskQueueType,
    });
    return (pollers ?? []).some(
      (poller) => Number(poller.lastAccessTime?.seconds ?? 0) >= Math.floor(since.getTime() / 1000),
    );
  };
  const parts: { name: string; isThere: () => Promise<boolean> }[] = [
    { name: 'the control worker', isThere: polled(CONTROL_QUEUE, KIND.TASK_QUEUE_TYPE_WORKFLOW) },
    {
      name: `the agent's worker of host ${options.host}`,
      isThere: polled(hostQueue(options.host), KIND.TASK_QUEUE_TYPE_ACTIVITY),
    },
    { name: "the agent's HTTP endpoint", isThere: async () => answers(await options.agentUrl()) },
  ];
  const until = Date.now() + timeoutMs;
  let toldAt = Date.now();
  try {
    for (;;) {
      signal.throwIfAborted();
      const there = await Promise.all(parts.map((part) => part.isThere()));
      const missing = parts.filter((_part, index) => there[index] !== true).map((part) => part.name);
      if (missing.length === 0) return;
      if (Date.now() >= until) throw notThere(missing, timeoutMs);
      if (Date.now() - toldAt >= 5_000) {
        toldAt = Date.now();
        options.say(`  waiting for ${missing.join(', ')}`);
      }
      await delay(200);
    }
  } finally {
    await connection.close();
  }
}

function notThere(missing: string[], timeoutMs: number): EmbeddedServerError {
  return new EmbeddedServerError(
    'not-ready',
    `Not at work after ${Math.round(timeoutMs / 1000)} s: ${missing.join(', ')}.`,
    'Their lines above say why.',
  );
}

/** Any answer counts: a refusal for want of a token is one. */
async function answers(url: string | null): Promise<boolean> {
  if (url === null) return false;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000) });
    await response.body?.cancel();
    return true;
  } catch {
    // Not up yet.
    return false;
  }
}
