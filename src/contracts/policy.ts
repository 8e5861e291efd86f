/** The part of a host's configuration that decisions need. It travels to workflows with each observation. */
import type { Wish } from './residency.js';

export interface ModelPolicy {
  /** The name that Ollama knows. */
  name: string;
  declaredMb: number;
  /** Higher wins; default 50. */
  priority: number;
  pinned: boolean;
  allowCpu: boolean;
  /** M12; null: never unloaded for idleness. */
  idleTimeoutSeconds: number | null;
  /** Per attempt (M19), default 30. */
  loadTimeoutSeconds: number;
  /** Per attempt (M19), default 5; holds the grace for requests in flight too. */
  unloadTimeoutSeconds: number;
}

export interface ServicePolicy {
  name: string;
  driver: 'docker' | 'native';
  /** MB of VRAM that it may take; 0: it uses no GPU. */
  declaredMb: number;
  /** Ollama runs in it: its models are inside this service. */
  serves?: 'ollama';
  /** Higher wins; default 50. */
  priority: number;
  pinned: boolean;
  /** P2, default 120: from the start until it is ready. */
  startTimeoutSeconds: number;
  /** P2, default 30: the graceful stop included. */
  stopTimeoutSeconds: number;
}

/** P3: which services a phase lists; every other one stops. */
export interface PhasePolicy {
  name: string;
  /** Null for a phase that is known by its name only. */
  number: number | null;
  /** Tenant ids. */
  services: string[];
}

export interface EmbedderPolicy {
  /** What the user wrote, for example `ViT-B-32`. */
  model: string;
  declaredMb: number;
  priority: number;
  /** M5: on the GPU only while more than this would be free, default 1024. */
  minFreeMb: number;
  moveTimeoutSeconds: number;
}

export interface ModePolicy {
  /** Wishes by tenant id. */
  wishes: Record<string, Wish>;
}

export interface HostPolicy {
  /** Retries of a step after the first attempt (M19), default 3. */
  maxLoadRetries: number;
  host: string;
  /** Kept free on each GPU, MB. */
  reserveMb: number;
  /** The VLM of the set-up: the model that M14's status names. */
  vlmModel: string;
  models: ModelPolicy[];
  embedder: EmbedderPolicy;
  services: ServicePolicy[];
  phases: PhasePolicy[];
  modes: Record<string, ModePolicy>;
  /** M15, default 100 MB. */
  vramEventThresholdMb: number;
  /** M16, default 30 s. */
  degradedRetrySeconds: number;
  /** How often the host looks for drift without an event, default 300 s. */
  reconcileSeconds: number;
}
