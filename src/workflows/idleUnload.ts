import { condition, continueAsNew, setCurrentDetails, setHandler, workflowInfo } from '@temporalio/workflow';
import { runOperation } from './operation.js';
import { agentReads } from './proxies.js';
import * as signals from './signals.js';

/** At the most so long between two looks, so that a shorter idle time of a new configuration counts soon. */
const LONGEST_SLEEP_MS = 10 * 60_000;

export interface IdleUnloadInput {
  host: string;
  tenant: string;
}

/**
 * The durable timer of one resident model (M12): `idle/<host>/<model>`. It sleeps for as long as the model is in
 * use, without a signal per request; when the time has passed it asks the gate under a turn, and unloads or sleeps on.
 */
export async function idleUnload({ host, tenant }: IdleUnloadInput): Promise<string> {
  let lookAgain = false;
  setHandler(signals.lookAgain, () => {
    lookAgain = true;
  });
  for (;;) {
    lookAgain = false;
    const remaining = await agentReads(host).idleRemaining.executeWithOptions(
      { summary: `how long is ${tenant} idle` },
      [tenant],
    );
    if (remaining === null) {
      if (lookAgain) continue;
      return `${tenant} is not resident, or has no idle time`;
    }
    if (remaining === 0) break;
    setCurrentDetails(`${tenant} may be unloaded in ${Math.ceil(remaining / 1000)} s if nobody uses it`);
    await condition(() => lookAgain, Math.min(remaining, LONGEST_SLEEP_MS), { summary: 'until it may be unloaded' });
    // A model that is used for weeks does not make one history for weeks.
    if (workflowInfo().continueAsNewSuggested) return continueAsNew<typeof idleUnload>({ host, tenant });
  }
  const outcome = await runOperation({
    host,
    goal: { kind: 'idle-unload', tenant },
    requestedBy: 'the idle timer',
    priority: 20,
  });
  // A use in the last moment, or what brought it back since: the timer goes on as a new run.
  const isThere = (outcome.residency?.[tenant]?.length ?? 0) > 0;
  if (outcome.steps.length === 0 || isThere || lookAgain) return continueAsNew<typeof idleUnload>({ host, tenant });
  return outcome.summary;
}
