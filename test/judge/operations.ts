/** The operations of a host as the Temporal server's histories tell them: which step ran from when to when. */
import type { Client } from '@temporalio/client';
import { vi } from 'vitest';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { Epochs } from '../../src/contracts/operation.js';

export interface StepWindow {
  workflowId: string;
  runId: string;
  kind: 'load' | 'unload' | 'move';
  tenant: string;
  devices: string[];
  epochs: Epochs;
  fromMs: number;
  /** When it surely had ended: its own end, or for a cancelled one the barrier of the next observation. */
  toMs: number;
  ended: 'completed' | 'failed' | 'cancelled' | 'lost';
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
  step: { tenant: string; devices: string[] };
  epochs: Epochs;
}

function inputOf(event: HistoryEvent): CallInput {
  const data = event.activityTaskScheduledEventAttributes?.input?.payloads?.[0]?.data;
  return JSON.parse(Buffer.from(data ?? new Uint8Array()).toString('utf8')) as CallInput;
}

/** The server's list of workflows runs behind what has happened, on a busy machine by seconds. */
const LIST_MS = 20_000;

/**
 * Every step of every operation of the host that began since `sinceMs` (wall clock).
 * @param journal whose concluded runs must be among them
 */
export async function stepWindows(
  client: Client,
  host: string,
  sinceMs: number,
  journal: readonly JournalEntry[],
): Promise<StepWindow[]> {
  const concluded = journal.filter(({ type }) => type === 'operation').map(({ details }) => String(details['runId']));
  const known = [...new Set(concluded)];
  const windows: StepWindow[] = [];
  const listed = await vi.waitFor(
    async () => {
      const found = await operationsOf(client, host, sinceMs);
      const missing = known.filter((id) => !found.some(({ runId }) => runId === id));
      if (missing.length > 0) throw new Error(`the server does not list ${missing.join(', ')} yet`);
      return found;
    },
    { timeout: LIST_MS, interval: 100 },
  );
  for (const { workflowId, runId } of listed) {
    const history = await client.workflow.getHandle(workflowId, runId).fetchHistory();
    windows.push(...windowsOf(workflowId, runId, history.events ?? []));
  }
  return windows.filter((window) => window.toMs >= sinceMs).sort((a, b) => a.fromMs - b.fromMs);
}

async function operationsOf(client: Client, host: string, sinceMs: number) {
  const since = new Date(sinceMs - 1_000).toISOString();
  const query = `VramflowHost = "${host}" AND (StartTime >= "${since}" OR WorkflowType = "idleUnload")`;
  const found: { workflowId: string; runId: string }[] = [];
  for await (const { workflowId, runId, type } of client.workflow.list({ query })) {
    if (type !== 'gpuHost') found.push({ workflowId, runId });
  }
  return found;
}

function windowsOf(workflowId: string, runId: string, events: HistoryEvent[]): StepWindow[] {
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
      const { step, epochs } = inputOf(event);
      const fromMs = timeOf(event);
      const window: StepWindow = {
        workflowId,
        runId,
        kind,
        tenant: step.tenant,
        devices: step.devices,
        epochs,
        fromMs,
        toMs: Number.POSITIVE_INFINITY,
        ended: 'lost',
      };
      open.set(id, window);
      windows.push(window);
    }
    close(event.activityTaskCompletedEventAttributes?.scheduledEventId, event, 'completed');
    close(event.activityTaskFailedEventAttributes?.scheduledEventId, event, 'failed');
    close(event.activityTaskTimedOutEventAttributes?.scheduledEventId, event, 'lost');
    close(event.activityTaskCanceledEventAttributes?.scheduledEventId, event, 'cancelled');
  }
  return windows;
}
