/**
 * Goes with every request that vramflow makes of Ollama, or Ollama's own five minutes would count (M12). Finite, so that
 * a model does not stay for ever when vramflow is gone (law 10).
 */
export const KEEP_ALIVE = '24h';
