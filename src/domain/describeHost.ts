import type { Intents } from '../contracts/operation.js';
import { describeGoal } from './describeGoal.js';
import type { Turns } from './turns.js';

/** An operation that has ended. */
export interface RecentOperation {
  /** ISO. */
  at: string;
  workflowId: string;
  what: string;
}

/** The host in a few lines of Markdown, for the Web UI. */
export function describeHost(intents: Intents, turns: Turns, recent: RecentOperation[] = []): string {
  const lines = [`**Mode** ${intents.mode}`];
  if (intents.degradedReason !== null) lines.push(`**Degraded:** ${intents.degradedReason}`);
  if (intents.wanted.length > 0) lines.push(`**Wanted:** ${intents.wanted.join(', ')}`);
  for (const { tenant, by } of intents.displaced) lines.push(`**Displaced:** ${tenant}, until ${by} ends`);
  for (const turn of turns.held) {
    lines.push(`**Turn:** ${describeGoal(turn.goal)} (${turn.operation.workflowId}), asked by ${turn.requestedBy}`);
  }
  for (const turn of turns.queue) lines.push(`**Waits:** ${describeGoal(turn.goal)} (${turn.operation.workflowId})`);
  if (turns.held.length === 0) lines.push('Nobody holds a turn.');
  if (recent.length > 0) {
    lines.push('**Last:**', recent.map(({ at, workflowId, what }) => `- ${at} ${what} (${workflowId})`).join('\n'));
  }
  return lines.join('\n\n');
}
