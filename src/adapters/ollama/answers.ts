import { z } from 'zod';

/** What vramflow reads of Ollama's answers. More fields may come; a missing one is an error, never a zero (law 1). */

const date = z.string().transform((text, context) => {
  const at = Date.parse(text);
  if (Number.isNaN(at)) {
    context.addIssue({ code: 'custom', message: `not a date: ${text}` });
    return z.NEVER;
  }
  return at;
});

const bytes = z.number().nonnegative();

export const versionAnswer = z.object({ version: z.string() });

export const tagsAnswer = z.object({
  models: z.array(z.object({ name: z.string(), size: bytes, digest: z.string() })).nullable(),
});

export const psAnswer = z.object({
  models: z
    .array(
      z.object({
        name: z.string(),
        size: bytes,
        size_vram: bytes,
        expires_at: date,
        /** Newer servers only; 0.6.5 does not tell. */
        context_length: z.number().optional(),
      }),
    )
    .nullable(),
});

export const showAnswer = z.object({ capabilities: z.array(z.string()).optional() });

/** The last line of a generate request. A runner that worked has counted tokens; a mere load has not. */
export const generateAnswer = z.object({
  done: z.literal(true),
  response: z.string(),
  eval_count: z.number().optional(),
  prompt_eval_count: z.number().optional(),
});

export const generateChunk = z.object({
  done: z.boolean(),
  response: z.string(),
  eval_count: z.number().optional(),
});

/** Embeddings of no input are an empty list. */
export const embedAnswer = z.object({ embeddings: z.array(z.array(z.number())) });

/** @throws Error in one line, that names the fields which are not as they should be. */
export function read<T>(schema: z.ZodType<T>, answer: unknown): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path, message }) => `${path.join('.') || 'answer'}: ${message}`);
  throw new Error(`its answer is not Ollama's (${issues.join('; ')})`);
}
