/** In `modes`, stands for the model that `vlm_model` names. */
export const VLM_ALIAS = 'vlm';

/** The name as Ollama's listings show it: without a tag, `latest` is meant. */
export function fullModelName(name: string): string {
  const tagged = name.slice(name.lastIndexOf('/') + 1).includes(':');
  return tagged ? name : `${name}:latest`;
}
