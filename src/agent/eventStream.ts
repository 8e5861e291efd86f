/** Streamed answers that hold no more in memory than their reader takes, and the journal as server-sent events. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Journal } from './journal.js';

/** A reader that takes nothing for so long is let go. */
const PATIENCE_MS = 30_000;
const BEAT_MS = 15_000;

/**
 * Entries from a sequence on, until the reader is gone: nothing is lost, nothing comes twice. The journal is the buffer:
 * an entry is read from it once the reader has taken those before, and Last-Event-ID goes on where one was let go.
 */
export async function streamEvents(
  journal: Journal,
  raw: ServerResponse,
  after: number,
  gone: AbortSignal,
): Promise<void> {
  let sent = after;
  while (!gone.aborted) {
    const entries = journal.read({ after: sent });
    for (const entry of entries) {
      raw.write(`id: ${entry.sequence}\nevent: ${entry.type}\ndata: ${JSON.stringify(entry)}\n\n`);
      sent = entry.sequence;
      await taken(raw, gone);
    }
    if (entries.length > 0 || (await hasNews(journal, gone))) continue;
    raw.write(': still here\n\n');
    await taken(raw, gone);
  }
}

/**
 * Resolves when the reader has taken enough of what was written to it; ends its connection when it takes too long.
 * @throws the signal's reason
 */
export async function taken(raw: ServerResponse, signal: AbortSignal): Promise<void> {
  if (!raw.writableNeedDrain) return;
  const impatience = setTimeout(() => raw.destroy(), PATIENCE_MS);
  try {
    await once(raw, 'drain', { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(impatience);
  }
}

/** Whether an entry came before it was time to say that the stream is alive, or before the reader left. */
function hasNews(journal: Journal, gone: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (news: boolean) => {
      stop();
      clearTimeout(beat);
      gone.removeEventListener('abort', left);
      resolve(news);
    };
    const left = () => end(true);
    const stop = journal.onEntry(() => end(true));
    const beat = setTimeout(() => end(false), BEAT_MS);
    gone.addEventListener('abort', left, { once: true });
  });
}
