import type { EmbedderProcess } from '../adapters/clip/embedder.js';
import { checkEmbeddings } from '../adapters/clip/probe.js';
import { PROBE_IMAGES, PROBE_TEXTS } from '../adapters/clip/probeInputs.js';

/** By cosine, between the embeddings of two devices. */
const TOLERANCE = 0.01;

/** The moved embedder does not give the embeddings that it should (M8): the old one stays in charge. */
export class ProbeFailed extends Error {}

export const embeddingsOfProbe = async (process: EmbedderProcess, signal: AbortSignal): Promise<number[][]> => [
  ...(await process.embedText([...PROBE_TEXTS], signal)),
  ...(await process.embedImages([...PROBE_IMAGES], signal)),
];

/** @returns whether there was something to compare with. @throws ProbeFailed, EmbedderError */
export async function probe(
  next: EmbedderProcess,
  reference: Promise<number[][] | null> | null,
  signal: AbortSignal,
): Promise<boolean> {
  const candidate = await embeddingsOfProbe(next, signal);
  const expected = await reference;
  // One that is cut off must not look like one whose old process does not answer.
  signal.throwIfAborted();
  const checked = checkEmbeddings(candidate, expected, { dimension: next.dimension, tolerance: TOLERANCE });
  if (!checked.ok) throw new ProbeFailed(`the embedder on ${next.device} fails its probe: ${checked.reason}`);
  return expected !== null;
}
