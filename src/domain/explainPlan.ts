/** A plan in lines for a person: what `vramflow plan …` prints, and what a workflow shows as its details (law 11). */
import { CPU } from '../contracts/names.js';
import type { PlanResult, PlanStep, Refusal, Rejected } from '../contracts/plan.js';
import type { HostObservation } from '../contracts/residency.js';
import { labelOf } from './planner/hostView.js';
import { calledForPeople } from './planner/leases.js';
import { listed, mb, seconds } from './planner/wording.js';
import { planPeaks, type StepPeak } from './planResidency.js';
import { verbOf } from './verbs.js';

type Plan = Extract<PlanResult, { kind: 'plan' }>;

/** Law 7, where a plan is shown by itself: in the Web UI. The command line says it on its own. */
export const simulatedMark = (observed: HostObservation): string[] =>
  observed.simulated ? ['SIMULATED: the figures come from the simulator'] : [];

export function explainPlan(plan: PlanResult, observed: HostObservation): string[] {
  const lines =
    plan.kind === 'plan' ? explainSteps(plan, observed) : explainRefusal(plan.refusal, plan.because, observed);
  return [...lines, ...plan.rejected.map((rejected) => explainRejected(rejected, observed))];
}

function explainSteps(plan: Plan, observed: HostObservation): string[] {
  if (plan.steps.length === 0) return [`${plan.because}: nothing to do, it is so already`];
  const count = plan.steps.length === 1 ? '1 step' : `${plan.steps.length} steps`;
  const displaced =
    plan.displaced.length > 0 ? [`displaces ${listed(plan.displaced.map((id) => named(observed, id)))}`] : [];
  return [
    `${plan.because}: ${count}, about ${seconds(plan.expectedMs)}`,
    ...plan.steps.map((step) => explainStep(step, plan, observed)),
    ...displaced,
  ];
}

function explainStep(step: PlanStep, plan: Plan, observed: HostObservation): string {
  const after = step.after.length > 0 ? ` after ${listed(step.after)}` : '';
  const all = planPeaks(observed, plan);
  const peaks = all
    .filter((peak) => peak.step === step.id && step.devices.includes(peak.device) && isChanged(peak, all))
    .map(
      (peak) => `at most ${mb(peak.peakMb)}${peak.totalMb === null ? '' : ` of ${mb(peak.totalMb)}`} on ${peak.label}`,
    );
  const figures = [`~${seconds(step.expectedMs)}`, ...peaks].join(', ');
  return `${step.id}${after}: ${whatItDoes(step, observed)} (${figures}): ${step.why}`;
}

/** A driver that places by itself reserves every GPU; those whose figures stay the same say nothing. */
const isChanged = ({ device, peakMb }: StepPeak, all: StepPeak[]): boolean =>
  all.every((peak) => peak.device === device) || all.some((peak) => peak.device === device && peak.peakMb !== peakMb);

function whatItDoes(step: PlanStep, observed: HostObservation): string {
  switch (step.kind) {
    case 'unload':
      return `${verbOf(step)} ${named(observed, step.tenant)}`;
    case 'load':
      return `${verbOf(step)} ${step.tenant}${step.devices.every((device) => device === CPU) ? ' on the CPU' : ''}`;
    case 'move':
      return `move ${step.tenant} to ${step.to === CPU ? 'the CPU' : labelById(observed, step.to)}`;
  }
}

function explainRefusal(refusal: Refusal, because: string, observed: HostObservation): string[] {
  const figure = (value: number | null): string => (value === null ? 'unknown' : mb(value));
  const gpus = Object.entries(refusal.figures).map(
    ([id, { totalMb, usedMb, freeMb, foreignMb }]) =>
      `${labelById(observed, id)}: total ${figure(totalMb)}, used ${figure(usedMb)}, free ${figure(freeMb)}, ` +
      `foreign ${figure(foreignMb)}`,
  );
  return [`${because}: refused (${refusal.code}): ${refusal.message}`, `what to do: ${refusal.remedy}`, ...gpus];
}

const explainRejected = ({ tenant, reason }: Rejected, observed: HostObservation): string =>
  `left as it is: ${named(observed, tenant)}: ${reason}`;

/** A tenant by its id; a lease by its holder, too. */
function named({ tenants }: HostObservation, id: string): string {
  const found = tenants.find((tenant) => tenant.id === id);
  return found === undefined ? id : calledForPeople(found);
}

function labelById(observed: HostObservation, id: string): string {
  const gpus = observed.devices.filter((device) => device.id !== CPU);
  const gpu = gpus.find((device) => device.id === id);
  return gpu === undefined ? id : labelOf(gpu, gpus);
}
