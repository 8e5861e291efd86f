export { gpuHost } from './gpuHost.js';
export { idleUnload } from './idleUnload.js';
export { modelOperation } from './modelOperation.js';
export { modeTransition } from './modeTransition.js';
export { phasePreparation } from './phasePreparation.js';
export { reconciliation } from './reconciliation.js';
export { serviceOperation } from './serviceOperation.js';
