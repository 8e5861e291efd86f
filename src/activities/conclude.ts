import type { Agent } from '../agent/agent.js';
import type { NewEntry } from '../agent/journal.js';
import type { AgentActivities, Conclusion } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { EMBEDDER, isService, serviceTenant, tenantName } from '../contracts/names.js';
import type { HostPolicy } from '../contracts/policy.js';
import { afterDisplacement } from '../domain/displacement.js';

/** The end of an operation at the agent: journal, mode, error states, gates, fence. */
export function createConcludeActivities(agent: Agent): Pick<AgentActivities, 'conclude' | 'abandonOperation'> {
  return {
    conclude: async (call: Conclusion) => {
      const { runId } = call.operation;
      const written = agent.journal.read().filter((entry) => entry.details['runId'] === runId);
      for (const { details, ...entry } of entriesOf(call, agent.mode)) {
        // A conclusion that died half-way goes on where it was.
        if (written.some(({ type }) => type === entry.type)) continue;
        agent.journal.append({ ...entry, details: { ...details, runId } });
      }
      // What a newer turn has made of the host meanwhile stands.
      if (!agent.fence.isStale(call)) remember(agent, call);
      agent.openGates({ of: call.operation.runId });
      agent.fence.leave(call.operation);
    },
    abandonOperation: async (operation) => agent.abandon(operation),
  };
}

function remember(agent: Agent, call: Conclusion): void {
  if (call.mode !== null) agent.setMode(call.mode);
  if (call.phase !== null) agent.setPhase(call.phase);
  agent.setDisplaced(afterDisplacement(agent.displaced, call.outcome));
  for (const tenant of ensuredLoaded(call, agent.policy)) agent.uses.touch(tenant);
  // M3: an error ends when what was asked for has become true.
  for (const tenant of asked(call, agent.policy)) if (call.outcome.status === 'done') agent.setError(tenant, null);
  const failed = failedTenant(call);
  if (failed === null) return;
  const reason = call.outcome.failure?.message ?? call.outcome.summary;
  agent.setError(failed, reason);
  if (isService(failed)) agent.services.failed(tenantName(failed), reason);
}

/** The tenants that a goal is about. */
function asked({ goal }: Conclusion, policy: HostPolicy): string[] {
  if (goal.kind === 'mode') return Object.keys(policy.modes[goal.mode]?.wishes ?? {});
  if (goal.kind === 'phase') return policy.services.map(({ name }) => serviceTenant(name));
  return 'tenant' in goal ? [goal.tenant] : [];
}

function entriesOf(call: Conclusion, formerMode: string): NewEntry[] {
  const { goal, outcome, operation, plan, requestedBy } = call;
  const { workflowId } = operation;
  const entries: NewEntry[] = [];
  if (call.mode !== null && call.mode !== formerMode) {
    entries.push({
      type: 'mode_changed',
      subject: call.mode,
      message: `mode ${formerMode} → ${call.mode}`,
      workflowId,
      details: { from: formerMode, to: call.mode },
    });
  }
  if (call.phase !== null) {
    entries.push({
      type: 'phase_prepared',
      subject: call.phase,
      message: `phase ${call.phase} is prepared`,
      workflowId,
    });
  }
  if (goal.kind === 'idle-unload' && outcome.steps.some((step) => step.acted)) {
    entries.push({ type: 'idle_unload', subject: goal.tenant, message: outcome.summary, workflowId });
  }
  const failed = failedTenant(call);
  if (failed !== null) {
    entries.push({
      type: isService(failed) ? 'service_failed' : isUnload(call, failed) ? 'unload_failed' : 'load_failed',
      subject: failed,
      message: outcome.summary,
      workflowId,
      details: { failure: outcome.failure, compensation: outcome.compensation },
    });
  }
  entries.push({
    type: 'operation',
    subject: goal.kind,
    message: outcome.summary,
    workflowId,
    details: { goal, requestedBy, outcome, plan },
  });
  return entries;
}

const OF_UNLOADS: string[] = [FAILURE.unloadFailed, FAILURE.unloadTimeout, FAILURE.notReclaimed];
const OF_BOTH: string[] = [FAILURE.premiseGone, FAILURE.driverUnavailable, FAILURE.agentAway];

/** Whether the step that failed was an unload: its failure tells, or else what was planned for the tenant. */
function isUnload({ outcome, plan }: Conclusion, tenant: string): boolean {
  const type = outcome.failure?.type ?? '';
  if (!OF_BOTH.includes(type)) return OF_UNLOADS.includes(type);
  const steps = plan?.kind === 'plan' ? plan.steps : [];
  return steps.find((step) => step.tenant === tenant)?.kind === 'unload';
}

/** M12: to ask that a model is loaded is a request for it, also when it was loaded already. */
function ensuredLoaded({ goal, outcome }: Conclusion, policy: HostPolicy): string[] {
  if (outcome.status !== 'done') return [];
  if (goal.kind === 'model') return goal.verb === 'load' ? [goal.tenant] : [];
  const wishes = goal.kind === 'mode' ? (policy.modes[goal.mode]?.wishes ?? {}) : {};
  return Object.keys(wishes).filter((tenant) => tenant.startsWith('model/') && wishes[tenant]?.place === 'gpu');
}

/** The model or service whose step failed for good (M19); null when it was something else. */
function failedTenant({ outcome, plan }: Conclusion): string | null {
  if (outcome.status !== 'failed' || outcome.failedTenant === null || plan?.kind !== 'plan') return null;
  return outcome.failedTenant === EMBEDDER ? null : outcome.failedTenant;
}
