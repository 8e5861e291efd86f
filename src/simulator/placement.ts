import type { ModelSpec } from './presets.js';

/** Ollama's own estimate is a little above what a runner then takes; `/api/ps` shows the estimate. */
export const ESTIMATE_OVER_ACTUAL = 1.02;

/** At the end of a load a runner holds this much more than afterwards. */
export const PEAK_OVER_STEADY = 1.03;

/** What Ollama leaves free on each CUDA device beside a model, in MB (`cudaMinimumMemory`, 0.6.5). */
const CUDA_MINIMUM_MB = 457;

/** Ollama 0.6.5's default context, in tokens. */
export const DEFAULT_NUM_CTX = 2048;

/** A model is offloaded in whole layers; this many stand for all models. */
const LAYERS = 33;

/** A card as Ollama sees it when it decides. */
export interface FreeCard {
  readonly gpu: string;
  readonly freeMb: number;
}

/** Where a model goes: MB by card, as estimated. What is missing from `sizeMb` runs on the CPU. */
export interface Placement {
  readonly sizeMb: number;
  readonly vramMb: Readonly<Record<string, number>>;
}

/** Ollama's estimate of a model's size with a context: the cache grows with the context. */
export function estimateMb(model: ModelSpec, numCtx: number): number {
  return Math.round(model.sizeMb * (0.9 + (0.1 * numCtx) / DEFAULT_NUM_CTX) * ESTIMATE_OVER_ACTUAL);
}

/** The single card with the most room if the model fits there whole, else all cards if it fits over them, else null. */
export function placeWhole(sizeMb: number, cards: readonly FreeCard[]): Placement | null {
  const roomiest = [...cards].sort((a, b) => b.freeMb - a.freeMb)[0];
  if (roomiest === undefined) return null;
  if (usableMb(roomiest) >= sizeMb) return { sizeMb, vramMb: { [roomiest.gpu]: sizeMb } };
  return totalUsableMb(cards) >= sizeMb ? { sizeMb, vramMb: spread(sizeMb, cards) } : null;
}

/**
 * As many whole layers as fit, the rest on the CPU: what Ollama does without a word when nothing else is loaded.
 * `mostShare` limits the part on the GPU (1: no limit; the option num_gpu or a fault sets less).
 */
export function placePartly(sizeMb: number, cards: readonly FreeCard[], mostShare = 1): Placement {
  const share = Math.min(mostShare, totalUsableMb(cards) / sizeMb);
  const onGpuMb = Math.floor((Math.floor(share * LAYERS) / LAYERS) * sizeMb);
  return { sizeMb, vramMb: onGpuMb > 0 ? spread(onGpuMb, cards) : {} };
}

/** The part of the layers that the option num_gpu puts on the GPU; negative means as many as fit. */
export function shareOfLayers(numGpu: number): number {
  return numGpu < 0 ? 1 : Math.min(1, numGpu / LAYERS);
}

function usableMb(card: FreeCard): number {
  return Math.max(0, card.freeMb - CUDA_MINIMUM_MB);
}

function totalUsableMb(cards: readonly FreeCard[]): number {
  return cards.reduce((sum, card) => sum + usableMb(card), 0);
}

/** Over the cards by their room, to the MB. */
function spread(mb: number, cards: readonly FreeCard[]): Record<string, number> {
  const totalMb = totalUsableMb(cards);
  const vramMb: Record<string, number> = {};
  let leftMb = mb;
  for (const card of [...cards].sort((a, b) => b.freeMb - a.freeMb)) {
    const partMb = Math.min(leftMb, Math.ceil((mb * usableMb(card)) / totalMb));
    if (partMb > 0) vramMb[card.gpu] = partMb;
    leftMb -= partMb;
  }
  return vramMb;
}
