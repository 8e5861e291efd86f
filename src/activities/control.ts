import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import type { ControlActivities } from '../contracts/activities.js';
import { EARLIER_INTENTS_MEMO, type HostState, SIGNAL, STATE_MEMO } from '../contracts/messages.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES, tenantName, workflowId } from '../contracts/names.js';
import type { Intents } from '../contracts/operation.js';
import { endWedged } from './wedge.js';

/** What the control worker does for workflows at the Temporal server itself. */
export function createControlActivities(client: Client): ControlActivities {
  return {
    requestTurnOfNewHost: (host, request) => signalHost(client, host, SIGNAL.requestTurn, [request]),
    ensureIdleTimer: async (host, tenant) => {
      const id = workflowId.idleUnload(host, tenantName(tenant));
      const timer = {
        workflowId: id,
        taskQueue: CONTROL_QUEUE,
        args: [{ host, tenant }],
        searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host], [SEARCH_ATTRIBUTES.tenant]: [tenant] },
        staticSummary: `unloads ${tenantName(tenant)} when nobody uses it`,
        signal: SIGNAL.lookAgain,
        signalArgs: [],
      };
      await client.workflow.signalWithStart('idleUnload', timer);
      // A wedged run takes signals as well, and would never unload.
      if ((await endWedged(client, id)) !== null) await client.workflow.signalWithStart('idleUnload', timer);
    },
    describeHolder: async ({ workflowId: id, runId }) => {
      try {
        const { status } = await client.workflow.getHandle(id, runId).describe();
        return status.name === 'RUNNING' ? 'running' : 'closed';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return 'not-found';
        throw error;
      }
    },
    terminateHolder: async ({ workflowId: id, runId }, reason) => {
      try {
        await client.workflow.getHandle(id, runId).terminate(reason);
      } catch (error) {
        if (!(error instanceof WorkflowNotFoundError)) throw error;
      }
    },
  };
}

/**
 * Signals a host's workflow, and starts it where it does not run. However its last chain ended, by the watchdog or by a
 * person, what that one wanted is still to be read at the server, and is handed to the new one.
 */
export async function signalHost(client: Client, host: string, signal: string, signalArgs: unknown[]): Promise<void> {
  // Read each time: a chain may end at any moment, also between a look whether it runs and the signal.
  const earlier = await intentsOfHost(client, host);
  await client.workflow.signalWithStart('gpuHost', {
    workflowId: workflowId.gpuHost(host),
    taskQueue: CONTROL_QUEUE,
    args: [{ host }],
    memo: { host, ...(earlier === null ? {} : { [EARLIER_INTENTS_MEMO]: earlier }) },
    searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
    staticSummary: `who may change the GPUs of ${host}`,
    signal,
    signalArgs,
  });
}

/** Of the newest run. One that never got on has published nothing, and hands on what it was handed itself. */
async function intentsOfHost(client: Client, host: string): Promise<Intents | null> {
  try {
    const { memo } = await client.workflow.getHandle(workflowId.gpuHost(host)).describe();
    const state = memo?.[STATE_MEMO] as HostState | undefined;
    return state?.intents ?? (memo?.[EARLIER_INTENTS_MEMO] as Intents | undefined) ?? null;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return null;
    throw error;
  }
}
