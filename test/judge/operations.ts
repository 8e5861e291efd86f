/** The operations of a host as the Temporal server's histories tell them: who had the turn, which step ran when. */
import type { Client } from '@temporalio/client';
import { vi } from 'vitest';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { SIGNAL } from '../../src/contracts/messages.js';
import type {
  Epochs,
  OperationGoal,
  OperationOutcome,
  TurnRelease,
  TurnRequest,
} from '../../src/contracts/operation.js';

/** One request for a turn, and what came of it. Times are epoch ms on the server's clock; null: it never was. */
export interface OperationRun {
  workflowId: string;
  runId: string;
  goal: OperationGoal;
  priority: number;
  startedMs: number;
  /** When the host had its request. */
  askedMs: number | null;
  grantedMs: number | null;
  /** When it was told to give up: superseded, or cancelled. */
  gaveUpMs: number | null;
  releasedMs: number | null;
  outcome: OperationOutcome | null;
}

export interface StepWindow {
  workflowId: string;
  runId: string;
  kind: 'load' | 'unload' | 'move';
  tenant: string;
  /** Where a move goes. */
  to: string | null;
  devices: string[];
  epochs: Epochs;
  fromMs: number;
  /** When the agent took it; null: never. */
  startedMs: number | null;
  /** When it surely had ended: its own end, or for a cancelled one the barrier of the next observation. */
  toMs: number;
  ended: 'completed' | 'failed' | 'cancelled' | 'lost';
  /** The type of its failure. */
  failure: string | null;
}

export interface Operations {
  windows: StepWindow[];
  runs: OperationRun[];
}

const KINDS: Record<string, StepWindow['kind']> = {
  loadTenant: 'load',
  unloadTenant: 'unload',
  moveEmbedder: 'move',
  startService: 'load',
  stopService: 'unload',
};

type History = Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['fetchHistory']>>;
type HistoryEvent = NonNullable<History['events']>[number];

const timeOf = (event: HistoryEvent): number =>
  Number(event.eventTime?.seconds ?? 0) * 1000 + Math.round((event.eventTime?.nanos ?? 0) / 1e6);

interface CallInput {
  step: { tenant: string; devices: string[]; to?: string };
  epochs: Epochs;
}

type Payloads = { payloads?: { data?: Uint8Array | null }[] | null } | null | undefined;

const firstOf = (input: Payloads): unknown =>
  JSON.parse(Buffer.from(input?.payloads?.[0]?.data ?? new Uint8Array()).toString('utf8'));

/** The server's list of workflows runs behind what has happened, on a busy machine by seconds. */
const LIST_MS = 20_000;

/**
 * Every operation of the host, and every step, that had not ended before `sinceMs` (wall clock).
 * @param journal whose concluded runs must be among them
 */
export async function operationsSince(
  client: Client,
  host: string,
  sinceMs: number,
  journal: readonly JournalEntry[],
): Promise<Operations> {
  const concluded = journal.filter(({ type }) => type === 'operation').map(({ details }) => String(details['runId']));
  const known = [...new Set(concluded)];
  const listed = await vi.waitFor(
    async () => {
      const found = await operationsOf(client, host, sinceMs);
      const missing = known.filter((id) => !found.some(({ runId }) => runId === id));
      if (missing.length > 0) throw new Error(`the server does not list ${missing.join(', ')} yet`);
      return found;
    },
    { timeout: LIST_MS, interval: 100 },
  );
  const histories = await Promise.all(listed.map((run) => historyOf(client, run)));
  return {
    windows: histories
      .flatMap(windowsOf)
      .filter(({ toMs }) => toMs >= sinceMs)
      .sort((a, b) => a.fromMs - b.fromMs),
    runs: histories
      .flatMap(runsOf)
      .filter(({ releasedMs }) => releasedMs === null || releasedMs >= sinceMs)
      .sort((a, b) => a.startedMs - b.startedMs),
  };
}

/** Every step of one operation, also those that failed, of which its outcome has no times. */
export const stepsOf = async (client: Client, run: { workflowId: string; runId: string }): Promise<StepWindow[]> =>
  windowsOf(await historyOf(client, run));

async function historyOf(client: Client, { workflowId, runId }: { workflowId: string; runId: string }) {
  const { events } = await client.workflow.getHandle(workflowId, runId).fetchHistory();
  return { workflowId, runId, events: events ?? [] };
}

/** One that is listed may have begun so much earlier, and have ended since. */
const BEFORE_MS = 10_000;

async function operationsOf(client: Client, host: string, sinceMs: number) {
  const since = new Date(sinceMs - BEFORE_MS).toISOString();
  const query = `VramflowHost = "${host}" AND (StartTime >= "${since}" OR WorkflowType = "idleUnload")`;
  const found: { workflowId: string; runId: string }[] = [];
  for await (const { workflowId, runId, type } of client.workflow.list({ query })) {
    if (type !== 'gpuHost') found.push({ workflowId, runId });
  }
  return found;
}

interface RunHistory {
  workflowId: string;
  runId: string;
  events: HistoryEvent[];
}

function runsOf({ workflowId, runId, events }: RunHistory): OperationRun[] {
  const runs: OperationRun[] = [];
  const asks = new Map<string, OperationRun>();
  for (const event of events) {
    const latest = runs.at(-1);
    const sent = event.signalExternalWorkflowExecutionInitiatedEventAttributes;
    if (sent?.signalName === SIGNAL.requestTurn) {
      const { goal, priority, startedAtMs = timeOf(event) } = firstOf(sent.input) as TurnRequest;
      const run: OperationRun = {
        workflowId,
        runId,
        goal,
        priority,
        startedMs: startedAtMs,
        askedMs: null,
        grantedMs: null,
        gaveUpMs: null,
        releasedMs: null,
        outcome: null,
      };
      runs.push(run);
      asks.set(String(event.eventId), run);
    }
    if (latest === undefined) continue;
    if (sent?.signalName === SIGNAL.releaseTurn) {
      latest.releasedMs = timeOf(event);
      latest.outcome = (firstOf(sent.input) as TurnRelease).outcome;
    }
    const asked = asks.get(String(event.externalWorkflowExecutionSignaledEventAttributes?.initiatedEventId));
    if (asked !== undefined) asked.askedMs = timeOf(event);
    const heard = event.workflowExecutionSignaledEventAttributes?.signalName;
    if (heard === SIGNAL.turnGranted) latest.grantedMs ??= timeOf(event);
    if (heard === SIGNAL.superseded || event.workflowExecutionCancelRequestedEventAttributes) {
      latest.gaveUpMs ??= timeOf(event);
    }
  }
  return runs;
}

function windowsOf({ workflowId, runId, events }: RunHistory): StepWindow[] {
  const open = new Map<string, StepWindow>();
  const windows: StepWindow[] = [];
  /** Those that were told to end but whose end only the next observation proves. */
  let unproven: StepWindow[] = [];
  const observations = new Set<string>();
  const close = (scheduled: unknown, event: HistoryEvent, ended: StepWindow['ended']): void => {
    const id = String(scheduled);
    const window = open.get(id);
    if (observations.delete(id) && ended === 'completed') {
      for (const one of unproven) one.toMs = timeOf(event);
      unproven = [];
    }
    if (window === undefined) return;
    open.delete(id);
    window.toMs = timeOf(event);
    window.ended = ended;
    if (ended === 'cancelled' || ended === 'lost') unproven.push(window);
  };
  for (const event of events) {
    const scheduled = event.activityTaskScheduledEventAttributes;
    if (scheduled) {
      const name = scheduled.activityType?.name ?? '';
      const id = String(event.eventId);
      if (name === 'observe') observations.add(id);
      const kind = KINDS[name];
      if (kind === undefined) continue;
      const { step, epochs } = firstOf(scheduled.input) as CallInput;
      const fromMs = timeOf(event);
      const window: StepWindow = {
        workflowId,
        runId,
        kind,
        tenant: step.tenant,
        to: step.to ?? null,
        devices: step.devices,
        epochs,
        fromMs,
        startedMs: null,
        toMs: Number.POSITIVE_INFINITY,
        ended: 'lost',
        failure: null,
      };
      open.set(id, window);
      windows.push(window);
    }
    const started = open.get(String(event.activityTaskStartedEventAttributes?.scheduledEventId));
    if (started !== undefined) started.startedMs = timeOf(event);
    const failed = event.activityTaskFailedEventAttributes;
    const broken = open.get(String(failed?.scheduledEventId));
    if (broken !== undefined) broken.failure = failed?.failure?.applicationFailureInfo?.type ?? null;
    close(event.activityTaskCompletedEventAttributes?.scheduledEventId, event, 'completed');
    close(failed?.scheduledEventId, event, 'failed');
    close(event.activityTaskTimedOutEventAttributes?.scheduledEventId, event, 'lost');
    close(event.activityTaskCanceledEventAttributes?.scheduledEventId, event, 'cancelled');
  }
  return windows;
}
