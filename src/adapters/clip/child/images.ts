import { ChildError } from './failure.js';
import type { RawImage, Transformers } from './transformers.js';

/** The first bytes of the two formats taken; the decoder would also open SVG, which can name other files. */
const MAGIC = [Buffer.from([0x89, 0x50, 0x4e, 0x47]), Buffer.from([0xff, 0xd8, 0xff])];

/** @throws ChildError `bad-input` when the text is no PNG or JPEG file in base64. */
export async function decodeImage(transformers: Transformers, base64: string, index: number): Promise<RawImage> {
  const bytes = Buffer.from(base64, 'base64');
  if (!MAGIC.some((magic) => bytes.subarray(0, magic.length).equals(magic))) {
    throw new ChildError('bad-input', `Image ${index} is not a PNG or JPEG file in base64.`);
  }
  try {
    return (await transformers.RawImage.fromBlob(new Blob([bytes]))).rgb();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ChildError('bad-input', `Image ${index} cannot be decoded: ${reason}`, { cause: error });
  }
}
