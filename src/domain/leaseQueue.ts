import type { WaitingLease } from '../contracts/messages.js';

/** More than these wait for nothing: they are told so. */
const MOST = 100;

/**
 * By priority, then in the order in which they came; the same one again keeps its place. Pure.
 * @returns the very same queue when nothing has changed
 */
export function joined(queue: WaitingLease[], lease: WaitingLease): WaitingLease[] {
  if (queue.some(({ id }) => id === lease.id) || queue.length >= MOST) return queue;
  const before = queue.filter(({ priority }) => priority >= lease.priority);
  const after = queue.filter(({ priority }) => priority < lease.priority);
  return [...before, lease, ...after];
}

export const left = (queue: WaitingLease[], lease: string): WaitingLease[] => queue.filter(({ id }) => id !== lease);
