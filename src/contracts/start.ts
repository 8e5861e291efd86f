/** Which workflow carries out a goal, and its id: the same wherever one is started. */
import { tenantName, workflowId } from './names.js';
import type { OperationGoal } from './operation.js';

export type OperationWorkflow = 'modeTransition' | 'modelOperation' | 'phasePreparation' | 'serviceOperation';

/** What people and programs can ask for; the rest is the host's own. */
export type AskedGoal = Extract<OperationGoal, { kind: 'mode' | 'model' | 'embedder' | 'phase' | 'service' }>;

export interface OperationStart {
  workflow: OperationWorkflow;
  workflowId: string;
  /** The tenant that it is about, or null. */
  tenant: string | null;
}

/** @param request names the request; the same one twice is one operation */
export function startOf(host: string, goal: AskedGoal, request: string): OperationStart {
  switch (goal.kind) {
    case 'mode':
      return { workflow: 'modeTransition', workflowId: workflowId.modeTransition(host, request), tenant: null };
    case 'phase':
      return {
        workflow: 'phasePreparation',
        workflowId: workflowId.phasePreparation(host, goal.phase, request),
        tenant: null,
      };
    case 'service':
      return {
        workflow: 'serviceOperation',
        workflowId: workflowId.serviceOperation(host, tenantName(goal.tenant), goal.verb, request),
        tenant: goal.tenant,
      };
    case 'model':
      return {
        workflow: 'modelOperation',
        workflowId: workflowId.modelOperation(host, tenantName(goal.tenant), goal.verb, request),
        tenant: goal.tenant,
      };
    case 'embedder':
      return {
        workflow: 'modelOperation',
        workflowId: workflowId.modelOperation(host, 'clip', goal.device === 'cpu' ? 'move-cpu' : 'move-cuda', request),
        tenant: null,
      };
  }
}
