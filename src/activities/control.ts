import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import type { ControlActivities } from '../contracts/activities.js';
import { SIGNAL } from '../contracts/messages.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES, tenantName, workflowId } from '../contracts/names.js';
import { endWedged } from './wedge.js';

/** What the control worker does for workflows at the Temporal server itself. */
export function createControlActivities(client: Client): ControlActivities {
  return {
    requestTurnOfNewHost: async (host, request) => {
      await client.workflow.signalWithStart('gpuHost', {
        ...hostWorkflow(host),
        signal: SIGNAL.requestTurn,
        signalArgs: [request],
      });
    },
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

/** How a host's workflow is started wherever it is needed and does not run. */
export const hostWorkflow = (host: string) => ({
  workflowId: workflowId.gpuHost(host),
  taskQueue: CONTROL_QUEUE,
  args: [{ host }],
  memo: { host },
  searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
  staticSummary: `who may change the GPUs of ${host}`,
});
