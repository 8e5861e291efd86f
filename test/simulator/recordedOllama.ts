/**
 * What a real Ollama 0.6.5 answered on 2026-11-21, with a tiny model on a CPU.
 * Method, path, body, status, text.
 */
export const TEXTS: readonly [string, string, string, number, string][] = [
  ['GET', '/', '', 200, 'Ollama is running'],
  ['GET', '/api/ps', '', 200, '{"models":[]}'],
  ['GET', '/api/nope', '', 404, '404 page not found'],
  ['POST', '/api/ps', '', 404, '404 page not found'],
  ['POST', '/api/show', '{"model":"nope"}', 404, `{"error":"model 'nope' not found"}`],
  ['POST', '/api/generate', '{"model":"nope"}', 404, `{"error":"model 'nope' not found"}`],
  ['POST', '/api/generate', '{"model":""}', 404, `{"error":"model '' not found"}`],
  ['POST', '/api/chat', '{"model":"nope"}', 404, '{"error":"model \\"nope\\" not found, try pulling it first"}'],
  ['POST', '/api/chat', '{"model":"nope","messages":[],"keep_alive":0}', 404, `{"error":"model 'nope' not found"}`],
  ['POST', '/api/embed', '{"model":"nope"}', 404, '{"error":"model \\"nope\\" not found, try pulling it first"}'],
  ['POST', '/api/generate', '', 400, '{"error":"missing request body"}'],
  [
    'POST',
    '/api/generate',
    '{"model":"llava:7b","keep_alive":"abc"}',
    400,
    '{"error":"time: invalid duration \\"abc\\""}',
  ],
  [
    'POST',
    '/api/generate',
    '{"model":"llava:7b","keep_alive":"60"}',
    400,
    '{"error":"time: missing unit in duration \\"60\\""}',
  ],
  [
    'POST',
    '/api/generate',
    '{"model":"llava:7b","prompt":"x","options":{"num_ctx":"abc"}}',
    500,
    '{"error":"option \\"num_ctx\\" must be of type integer"}',
  ],
];

/** The fields of its answers, in their order. */
export const KEYS: Record<'load' | 'generated' | 'chatted' | 'embedded' | 'ps' | 'tags', string[]> = {
  load: ['model', 'created_at', 'response', 'done', 'done_reason'],
  generated: [
    'model',
    'created_at',
    'response',
    'done',
    'done_reason',
    'total_duration',
    'load_duration',
    'prompt_eval_count',
    'prompt_eval_duration',
    'eval_count',
    'eval_duration',
  ],
  chatted: ['model', 'created_at', 'message', 'done_reason', 'done', 'total_duration', 'load_duration'],
  embedded: ['model', 'embeddings', 'total_duration', 'load_duration', 'prompt_eval_count'],
  ps: ['name', 'model', 'size', 'digest', 'details', 'expires_at', 'size_vram'],
  tags: ['name', 'model', 'modified_at', 'size', 'digest', 'details'],
};
