/** In `modes`, stands for the model that `vlm_model` names. */
export const VLM_ALIAS = 'vlm';

/** What Ollama takes as a name; a registry and a tag may be part of it. */
export const MODEL_NAME = /^[A-Za-z0-9][\w./:-]*$/;

/** The name as Ollama's listings show it: without a tag, `latest` is meant. What is no name stays as it is. */
export function fullModelName(name: string): string {
  if (!MODEL_NAME.test(name)) return name;
  const tagged = name.slice(name.lastIndexOf('/') + 1).includes(':');
  return tagged ? name : `${name}:latest`;
}
