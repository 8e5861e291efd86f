/** Judges a sequence by the simulator's record and the server's histories, not by what vramflow believes. */
import type { System } from '../system/system.js';
import { failuresAreTold, modelChangesAreTold, modelEventsAreTrue, modesAreTold, movesAreTold } from './events.js';
import type { Evidence, Settings } from './evidence.js';
import { attemptsAreCounted, attemptsKeepTheirTime, busyness, switchesKeepTheirTime } from './limits.js';
import { memory, strangers } from './memory.js';
import { clipLeavesFirst, idleUnloads, lifeOfModels } from './models.js';
import { operationsSince } from './operations.js';
import { attributed, inTheirOrder, newestSwitchWins, oneAfterTheOther } from './order.js';
import { outcomesAreTrue, textsCame } from './outcomes.js';
import type { Trace } from './trace.js';
import { vramChangesAreTold } from './vramEvents.js';

/** Gathers the evidence and judges what happened on a host since its trace began; it is at rest. */
export async function judgeHost(system: System, trace: Trace, { calm }: { calm: boolean }): Promise<string[]> {
  const endedMs = Date.now();
  const { execution_mode: mode } = await system.status();
  const journal = await system.journalAfter(trace.firstJournal);
  const operations = await operationsSince(system.client, system.host, trace.startedMs, journal);
  const record = system.simulator.record();
  const settings = settingsOf(system);
  return judge({
    record,
    journal,
    ...operations,
    trace: { ...trace, endedMs },
    calm,
    settings,
    mode,
    busy: busyness(),
  });
}

const settingsOf = ({ config, simulator }: System): Settings => ({
  vlm: config.vlm_model,
  idleTimeoutMs: Number(config.idle_timeout_seconds) * 1000,
  loadMs: config.load_timeout_seconds * 1000,
  unloadMs: config.unload_timeout_seconds * 1000,
  maxRetries: config.max_load_retries,
  modelMb: Object.fromEntries(Object.entries(config.models).map(([name, { vram_mb }]) => [name, vram_mb ?? 0])),
  reservedMb: Object.fromEntries(simulator.gpuHost.cards.map(({ spec }) => [spec.uuid, spec.reservedMb])),
});

export const judge = (evidence: Evidence): string[] => [
  ...evidence.trace.seen,
  ...memory(evidence),
  ...strangers(evidence),
  ...lifeOfModels(evidence),
  ...clipLeavesFirst(evidence),
  ...idleUnloads(evidence),
  ...oneAfterTheOther(evidence),
  ...inTheirOrder(evidence),
  ...newestSwitchWins(evidence),
  ...attributed(evidence),
  ...attemptsKeepTheirTime(evidence),
  ...attemptsAreCounted(evidence),
  ...switchesKeepTheirTime(evidence),
  ...outcomesAreTrue(evidence),
  ...textsCame(evidence),
  ...modelEventsAreTrue(evidence),
  ...modelChangesAreTold(evidence),
  ...failuresAreTold(evidence),
  ...modesAreTold(evidence),
  ...movesAreTold(evidence),
  ...vramChangesAreTold(evidence),
];
