/**
 * The small part of `@huggingface/transformers` that the embedder uses. The library is an optional part in a folder
 * of its own, so its types are not at hand when vramflow is built.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';

export interface Tensor {
  data: Float32Array;
  dims: number[];
}

export interface Progress {
  status: string;
  file?: string;
  /** Percent. */
  progress?: number;
}

export interface LoadOptions {
  device?: string;
  dtype?: string;
  progress_callback?: (progress: Progress) => void;
}

interface Loadable<Loaded> {
  from_pretrained(model: string, options?: LoadOptions): Promise<Loaded>;
}

export interface RawImage {
  rgb(): RawImage;
}

export interface Tokenizer {
  encode(text: string): number[];
  readonly model_max_length: number;
  readonly pad_token_id?: number;
}

export interface Transformers {
  env: {
    allowRemoteModels: boolean;
    useFSCache: boolean;
    cacheDir: string | null;
  };
  AutoTokenizer: Loadable<Tokenizer>;
  AutoImageProcessor: Loadable<(images: RawImage[]) => Promise<{ pixel_values: Tensor }>>;
  CLIPTextModelWithProjection: Loadable<
    (inputs: { input_ids: Tensor; attention_mask: Tensor }) => Promise<{ text_embeds: Tensor }>
  >;
  CLIPVisionModelWithProjection: Loadable<(inputs: { pixel_values: Tensor }) => Promise<{ image_embeds: Tensor }>>;
  RawImage: { fromBlob(blob: Blob): Promise<RawImage> };
  Tensor: new (type: 'int64', data: BigInt64Array, dims: number[]) => Tensor;
}

/** @throws when the part is not installed in this folder. */
export function loadTransformers(partFolder: string): Transformers {
  const require = createRequire(join(partFolder, 'package.json'));
  return require('@huggingface/transformers') as Transformers;
}
