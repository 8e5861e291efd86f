/**
 * Names of Ollama's models. The server completes a short name with a registry, a namespace and a tag, and
 * finds an installed model without regard to case; so several spellings mean one model.
 */

const DEFAULT_HOST = 'registry.ollama.ai';
const DEFAULT_NAMESPACE = 'library';
const DEFAULT_TAG = 'latest';

/**
 * The one spelling of a model's name, for keys and comparisons (for display, keep what the server or the user wrote):
 * lower case, with a tag, without the default registry and namespace. `Qwen3-VL` → `qwen3-vl:latest`.
 */
export function normalName(name: string): string {
  const parts = name.trim().toLowerCase().split('/');
  if (parts.length === 3 && parts[0] === DEFAULT_HOST) parts.shift();
  if (parts.length === 2 && parts[0] === DEFAULT_NAMESPACE) parts.shift();
  // Only the last part can carry a tag: a colon before it belongs to a registry's port.
  const last = parts.pop() ?? '';
  parts.push(last.includes(':') ? last : `${last}:${DEFAULT_TAG}`);
  return parts.join('/');
}

/** True when both spellings mean the same model: `qwen3-vl` and `qwen3-vl:latest` do. */
export function sameModel(a: string, b: string): boolean {
  return normalName(a) === normalName(b);
}
