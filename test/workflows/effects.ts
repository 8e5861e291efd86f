/** What each kind of step does to the scripted hardware. */
import { CPU, isService, tenantName } from '../../src/contracts/names.js';
import type { PlanStep } from '../../src/contracts/plan.js';
import type { EffectKind, Hardware } from './hardware.js';

export interface Effect {
  kind: EffectKind;
  /** What the step wants is there. */
  isTrue(): boolean;
  begin(): void;
  /** A moment has passed since it began, or since it went on last. */
  goOn(): void;
  /** Nobody waits for it any more. */
  breakOff(agentDied: boolean): void;
}

export function effectOf(hardware: Hardware, step: PlanStep): Effect {
  if (isService(step.tenant)) return ofService(hardware, tenantName(step.tenant), step.kind === 'load');
  switch (step.kind) {
    case 'load':
      return load(hardware);
    case 'unload':
      return unload(hardware);
    case 'move':
      return move(hardware, step.to);
  }
}

/** Ollama breaks off a load that nobody waits for. */
const load = (hardware: Hardware): Effect => ({
  kind: 'load',
  isTrue: () => hardware.vlm === 'loaded',
  begin() {
    hardware.vlm = 'loading';
  },
  goOn() {
    hardware.vlm = 'loaded';
  },
  breakOff(agentDied) {
    if (!agentDied) hardware.vlm = 'absent';
  },
});

/** Ollama carries an unload out, whether anybody waits or not. */
const unload = (hardware: Hardware): Effect => ({
  kind: 'unload',
  isTrue: () => hardware.vlm === 'absent',
  begin() {},
  goOn() {
    hardware.vlm = 'absent';
  },
  breakOff() {
    hardware.vlm = 'absent';
  },
});

/** The new embedder lives beside the former one until it has taken its place. */
const move = (hardware: Hardware, to = CPU): Effect => ({
  kind: 'move',
  isTrue: () => hardware.embedders[0] === to,
  begin() {
    hardware.embedders.push(to);
  },
  goOn() {
    hardware.embedders.shift();
  },
  breakOff(agentDied) {
    if (!agentDied) hardware.embedders.length = 1;
  },
});

/** A service goes on as it is: it comes up, or its memory comes back, without the agent. */
const ofService = ({ services }: Hardware, name: string, starts: boolean): Effect => ({
  kind: starts ? 'start' : 'stop',
  isTrue: () => services.stateOf(name) === (starts ? 'ready' : 'absent'),
  begin: () => (starts ? services.start(name) : services.stop(name)),
  goOn: () => services.looked(name),
  breakOff() {},
});
