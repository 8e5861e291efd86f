import type { Edge, WaitingLease } from '../contracts/messages.js';

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

/** Between two words to the line because memory fell, ms: it may move all the time, and each word is an operation of each lease. */
const MEMORY_NEWS_EVERY_MS = 30_000;

/**
 * Whether what changed on the host may have made room, so that the line is to look again. What is left out here each lease
 * finds by its own look. Pure.
 * @param toldOfMemoryMs since the line was last told that memory fell
 */
export function mayMakeRoom({ kind, fell }: Pick<Edge, 'kind' | 'fell'>, toldOfMemoryMs: number): boolean {
  if (isOfMemory(kind)) return fell !== false && toldOfMemoryMs >= MEMORY_NEWS_EVERY_MS;
  return kind === 'tenant-left' || kind === 'tenant-died' || kind === 'gpu-back';
}

export const isOfMemory = (kind: Edge['kind']): boolean => kind === 'vram-changed' || kind === 'foreign-process';
