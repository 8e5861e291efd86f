/** What is wanted of a host now: the request at hand, on top of what the host wants already. */
import { EMBEDDER, modelTenant, serviceTenant } from '../contracts/names.js';
import type { Intents, OperationGoal } from '../contracts/operation.js';
import type { HostPolicy, ServicePolicy } from '../contracts/policy.js';
import type { HostObservation, Target, Wish } from '../contracts/residency.js';
import { describeGoal } from './describeGoal.js';
import { ollamaTrouble } from './ollamaTrouble.js';
import { findPhase } from './phases.js';
import { servicePolicy } from './timeouts.js';

/** The priority of what a person or a mode asks for. An on-demand load has the priority of its model. */
const PERSON = 100;

/** Into the room that there is: displaces nobody, and refuses nothing. */
const IF_IT_FITS: Wish = { place: 'gpu-if-room', minFreeMb: 0, notBeside: [] };

/**
 * The residency that a goal asks for. Pure, and throws nothing: that the goal names what the configuration has is
 * checked before. Quarantine and health are in the observation; then the mode asked for last counts, then demands.
 */
export function resolveTarget(
  goal: OperationGoal,
  intents: Intents,
  policy: HostPolicy,
  observed: HostObservation,
): Target {
  const because = describeGoal(goal);
  const situation = { intents, policy, observed };
  switch (goal.kind) {
    case 'mode': {
      // The moves asked for by hand end with a mode switch.
      const wishes = { ...modeWishes(policy, goal.mode) };
      if (isDegraded(situation)) wishes[EMBEDDER] = { place: 'cpu' };
      return { wishes, because, priority: PERSON };
    }
    case 'model':
      return goal.verb === 'load' ? load(goal, because, situation) : unload(goal.tenant, because, situation, true);
    case 'idle-unload':
      return unload(goal.tenant, because, situation, false);
    case 'phase':
      return phase(goal.phase, because, situation);
    case 'service':
      return service(goal, because, policy);
    case 'lease':
      return {
        wishes: { [goal.tenant]: { place: 'gpu' } },
        because,
        priority: goal.request.priority,
        asked: goal.tenant,
      };
    case 'embedder': {
      const wish: Wish = { place: goal.device === 'cuda' ? 'gpu' : 'cpu' };
      return { wishes: { [EMBEDDER]: wish }, because, priority: PERSON, asked: EMBEDDER };
    }
    case 'reconcile':
      return reconcile(because, situation);
  }
}

/** P3: what the phase does not list stops, whatever its priority; an empty phase frees everything. */
function phase(asked: string, because: string, { policy, observed }: Situation): Target {
  const listed = findPhase(policy, asked)?.services ?? [];
  const wishes: Record<string, Wish> = {};
  for (const one of policy.services) {
    const tenant = serviceTenant(one.name);
    wishes[tenant] = listed.includes(tenant) ? runs(one) : { place: 'absent' };
  }
  if (listed.length > 0) return { wishes, because, priority: PERSON };
  const unseen = observed.drivers.some(({ id, unseen }) => id === 'ollama' && unseen);
  for (const { id, kind, state, holdings } of observed.tenants) {
    // Ollama says nothing, and nothing is seen of it: the services need not wait for that.
    const isNowhere = unseen && state === 'unknown' && holdings.length === 0;
    if (kind === 'model' && !isNowhere) wishes[id] = { place: 'absent' };
  }
  return { wishes: { ...wishes, [EMBEDDER]: { place: 'cpu' } }, because, priority: PERSON };
}

/** P5: a single start makes room with the priority of its service. */
function service(
  { tenant, verb }: Extract<OperationGoal, { kind: 'service' }>,
  because: string,
  policy: HostPolicy,
): Target {
  const one = servicePolicy(policy, tenant);
  const wish: Wish = verb === 'stop' || one === undefined ? { place: 'absent' } : runs(one);
  const wishes = { [tenant]: verb === 'restart' && wish.place !== 'absent' ? { ...wish, anew: true } : wish };
  return { wishes, because, priority: one?.priority ?? 0, asked: tenant };
}

const runs = ({ declaredMb }: ServicePolicy) =>
  declaredMb > 0 ? ({ place: 'gpu' } as const) : ({ place: 'cpu' } as const);

interface Situation {
  intents: Intents;
  policy: HostPolicy;
  observed: HostObservation;
}

function load(goal: { tenant: string; demand: boolean }, because: string, situation: Situation): Target {
  return {
    wishes: { ...embedderWish(situation, { loads: [goal.tenant], ends: null }), [goal.tenant]: { place: 'gpu' } },
    because,
    priority: goal.demand ? priorityOf(goal.tenant, situation) : PERSON,
    asked: goal.tenant,
  };
}

/** A demand's end brings back what it displaced, as far as there is room: an unload is never refused for that. */
function unload(tenant: string, because: string, situation: Situation, byPerson: boolean): Target {
  const { wanted, displaced } = situation.intents;
  const back = displaced.filter((entry) => entry.by === tenant && entry.tenant !== tenant).map((entry) => entry.tenant);
  const restored = back.filter((model) => wanted.includes(model) && hasDied(model, situation));
  return {
    wishes: {
      ...embedderWish(situation, { loads: restored, ends: tenant }),
      ...Object.fromEntries(restored.map((model) => [model, IF_IT_FITS])),
      [tenant]: { place: 'absent' },
    },
    because,
    priority: byPerson ? PERSON : priorityOf(tenant, situation),
    asked: tenant,
  };
}

/**
 * Restores what died while wanted, into the room that it left: by itself the host pushes nobody out, or two models
 * that both are wanted would displace each other for ever. What a demand displaced stays away until that demand ends.
 */
function reconcile(because: string, situation: Situation): Target {
  const { intents, policy } = situation;
  const heldBack = intents.displaced
    .filter(({ by }) => intents.wanted.includes(by) || isResident(by, situation))
    .map(({ tenant }) => tenant);
  const restored = intents.wanted.filter((model) => !heldBack.includes(model) && hasDied(model, situation));
  return {
    wishes: {
      ...embedderWish(situation, { loads: restored, ends: null }),
      ...Object.fromEntries(restored.map((tenant) => [tenant, restoredTo(tenant, policy)])),
    },
    because,
    priority: 0,
  };
}

/**
 * Where the embedder belongs while the request at hand loads and ends models; no wish: it stays where it is.
 * Ollama away: the CPU (M16). A move by hand holds, but not against a load of the VLM (M7). Else the mode's wish
 * counts; the mode was moved to once, so by now it makes no room for the embedder any more.
 */
function embedderWish(situation: Situation, change: { loads: string[]; ends: string | null }): Record<string, Wish> {
  const { intents, policy, observed } = situation;
  if (isDegraded(situation)) return { [EMBEDDER]: { place: 'cpu' } };
  const vlm = modelTenant(policy.vlmModel);
  const vlmStays = isResident(vlm, situation) && change.ends !== vlm;
  const vlmComes = change.loads.includes(vlm) && !vlmStays;
  const besideNoVlm: Wish = { place: 'gpu-if-room', minFreeMb: 0, notBeside: [vlm] };
  if (intents.embedderByHand === 'cpu') return { [EMBEDDER]: { place: 'cpu' } };
  if (intents.embedderByHand === 'cuda') return vlmStays ? {} : { [EMBEDDER]: besideNoVlm };
  const ofMode = modeWishes(policy, intents.mode)[EMBEDDER];
  if (ofMode !== undefined) return { [EMBEDDER]: ofMode.place === 'gpu' ? IF_IT_FITS : ofMode };
  const onGpu = observed.tenants.some(
    ({ id, holdings }) => id === EMBEDDER && holdings.some((h) => h.device !== 'cpu'),
  );
  return vlmComes && onGpu ? { [EMBEDDER]: besideNoVlm } : {};
}

/** M16. The observation is fresher than what the host has been told. */
const isDegraded = ({ intents, observed }: Situation): boolean => {
  const isSeen = observed.drivers.some(({ id }) => id === 'ollama');
  return isSeen ? ollamaTrouble(observed.drivers) !== null : intents.degradedReason !== null;
};

/** A service without VRAM has its room anywhere. */
const restoredTo = (tenant: string, policy: HostPolicy): Wish =>
  servicePolicy(policy, tenant)?.declaredMb === 0 ? { place: 'cpu' } : IF_IT_FITS;

const modeWishes = (policy: HostPolicy, mode: string): Record<string, Wish> =>
  Object.hasOwn(policy.modes, mode) ? (policy.modes[mode]?.wishes ?? {}) : {};

const stateOf = (tenant: string, situation: Situation) => find(tenant, situation)?.state;

const find = (tenant: string, { observed }: Situation) => observed.tenants.find((candidate) => candidate.id === tenant);

const isResident = (tenant: string, situation: Situation): boolean =>
  ['resident', 'loading'].includes(stateOf(tenant, situation) ?? 'absent');

/**
 * Gone, and the driver says so; what is unknown has not died. A model that failed for good is not tried again by itself
 * (M19); a service is, each time that its back-off has passed (P8).
 */
function hasDied(tenant: string, situation: Situation): boolean {
  const { state = 'unknown', trouble } = find(tenant, situation) ?? {};
  if (trouble !== undefined && trouble.nextTryAt !== null) return false;
  return state === 'absent' || state === 'unhealthy' || (state === 'error' && trouble !== undefined);
}

function priorityOf(tenant: string, { policy, observed }: Situation): number {
  const configured = policy.models.find((model) => modelTenant(model.name) === tenant)?.priority;
  return configured ?? observed.tenants.find((candidate) => candidate.id === tenant)?.priority ?? 0;
}
