/** CLIP's two towers on one device. */
import { decodeImage } from './images.js';
import { toRectangle } from './tokens.js';
import type { LoadOptions, Transformers } from './transformers.js';
import { unitRows } from './unitNorm.js';

/** Inputs of one run of a tower; bounds the memory that a large request takes on the device. */
const CHUNK = 8;
/** CLIP's context, for a tokenizer that does not name it. */
const CONTEXT = 77;

export interface Clip {
  /** Unit-norm embeddings, one for each input. Stops between chunks on abort. */
  text(texts: string[], signal: AbortSignal): Promise<number[][]>;
  /** @param images PNG or JPEG files in base64 */
  images(images: string[], signal: AbortSignal): Promise<number[][]>;
}

/**
 * @param provider ONNX Runtime's execution provider. One that cannot be used makes this throw: there is no
 *   fall-back to another one (law 7).
 */
export async function loadClip(transformers: Transformers, model: string, options: LoadOptions): Promise<Clip> {
  const tokenizer = await transformers.AutoTokenizer.from_pretrained(model, options);
  const processor = await transformers.AutoImageProcessor.from_pretrained(model, options);
  // Full precision on every device, so that a move changes embeddings by rounding only (M8).
  const precise = { ...options, dtype: 'fp32' };
  const textTower = await transformers.CLIPTextModelWithProjection.from_pretrained(model, precise);
  const imageTower = await transformers.CLIPVisionModelWithProjection.from_pretrained(model, precise);
  const maxLength = Math.min(tokenizer.model_max_length, CONTEXT);

  return {
    text: (texts, signal) =>
      inChunks(texts, signal, async (chunk) => {
        const tokens = chunk.map((text) => tokenizer.encode(text));
        const { ids, mask, dims } = toRectangle(tokens, { maxLength, padId: tokenizer.pad_token_id ?? 0 });
        const { text_embeds } = await textTower({
          input_ids: new transformers.Tensor('int64', ids, dims),
          attention_mask: new transformers.Tensor('int64', mask, dims),
        });
        return unitRows(text_embeds.data, chunk.length);
      }),
    images: (images, signal) =>
      inChunks(images, signal, async (chunk, start) => {
        const decoded = await Promise.all(chunk.map((image, i) => decodeImage(transformers, image, start + i)));
        const { image_embeds } = await imageTower(await processor(decoded));
        return unitRows(image_embeds.data, chunk.length);
      }),
  };
}

async function inChunks(
  inputs: string[],
  signal: AbortSignal,
  embed: (chunk: string[], start: number) => Promise<number[][]>,
): Promise<number[][]> {
  const embeddings: number[][] = [];
  for (let start = 0; start < inputs.length; start += CHUNK) {
    signal.throwIfAborted();
    embeddings.push(...(await embed(inputs.slice(start, start + CHUNK), start)));
  }
  return embeddings;
}
