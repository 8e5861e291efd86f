/** What must hold of a scripted host after an operation, whatever died in between. */

import { CPU, EMBEDDER, serviceTenant } from '../../src/contracts/names.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { CARD_MB, type EffectEntry, GPU, type Hardware, VLM } from './hardware.js';
import { SERVICES } from './services.js';

/** Law 3 and M9 by the hardware's record: one effect after the other, no older epoch, nothing loaded twice. */
export function judgeRecord(record: readonly EffectEntry[]): string[] {
  const complaints: string[] = [];
  const open: EffectEntry[] = [];
  let highest = 0;
  let loaded = false;
  for (const entry of record) {
    if (entry.what !== 'begin') {
      const index = open.findIndex(({ runId, kind }) => runId === entry.runId && kind === entry.kind);
      open.splice(index, 1);
      if (entry.kind === 'load') loaded = entry.what === 'end';
      if (entry.kind === 'unload') loaded = false;
      continue;
    }
    const stranger = open.find(({ runId }) => runId !== entry.runId);
    if (stranger) complaints.push(`M11: ${nameOf(entry)} began while ${nameOf(stranger)} was under way`);
    const twin = open.find(({ tenant }) => tenant === entry.tenant);
    if (twin) complaints.push(`law 4: ${nameOf(entry)} began a second time`);
    if (entry.epoch < highest) complaints.push(`law 3: ${nameOf(entry)} has epoch ${entry.epoch} after ${highest}`);
    highest = Math.max(highest, entry.epoch);
    if (entry.kind === 'load' && loaded) complaints.push(`M9: ${nameOf(entry)} loads what is loaded`);
    open.push(entry);
  }
  for (const entry of open) complaints.push(`${nameOf(entry)} never ended`);
  return complaints;
}

const nameOf = ({ kind, tenant, runId }: EffectEntry): string => `${kind} ${tenant} of ${runId.slice(0, 8)}`;

/** P3, P6 and P8 by the hardware: what runs is what is to run, it was started once, and the card had room for all. */
export function judgeServices({ services, mostMb }: Hardware, running: readonly string[]): string[] {
  const complaints: string[] = [];
  const there = services.list().join(', ');
  const wanted = running.map((name) => `${name} ready`).sort();
  if (there !== wanted.join(', ')) complaints.push(`P3: there is ${there || 'nothing'}, wanted: ${wanted.join(', ')}`);
  if (new Set(services.starts).size < services.starts.length) complaints.push(`P8: started ${services.starts.join()}`);
  if (mostMb > CARD_MB) complaints.push(`P6: the card was to hold ${mostMb} of its ${CARD_MB} MB`);
  return complaints;
}

/** The outcome says what is there. */
export function judgeOutcome(outcome: OperationOutcome, hardware: Hardware): string[] {
  const complaints: string[] = [];
  const said = outcome.residency;
  if (said === null) return [`the outcome does not state the residency: ${outcome.summary}`];
  const vlmThere = (said[VLM]?.length ?? 0) > 0;
  if (vlmThere !== (hardware.vlm === 'loaded')) complaints.push(`the VLM is ${hardware.vlm}, said: ${vlmThere}`);
  const clip = said[EMBEDDER]?.[0];
  if (clip !== hardware.embedders[0]) complaints.push(`CLIP is on ${hardware.embedders[0]}, said: ${clip}`);
  for (const { name } of SERVICES) {
    const there = (said[serviceTenant(name)]?.length ?? 0) > 0;
    const state = hardware.services.stateOf(name);
    if (there !== (state !== 'absent')) complaints.push(`${name} is ${state}, said: ${there}`);
  }
  if (outcome.status === 'failed' && outcome.failure === null) complaints.push('it failed and does not say why');
  if (outcome.status !== 'done') return complaints;
  return [...complaints, ...judgeTarget(outcome, hardware)];
}

function judgeTarget({ goal, summary }: OperationOutcome, hardware: Hardware): string[] {
  const there = `VLM ${hardware.vlm}, CLIP on ${hardware.embedders.join(' and ')}`;
  const want = (vlm: string, clip: string | null): string[] =>
    hardware.vlm === vlm && (clip === null || hardware.embedders[0] === clip) ? [] : [`${summary}: but ${there}`];
  if (goal.kind === 'mode' && goal.mode === 'recording') return want('loaded', CPU);
  if (goal.kind === 'mode' && goal.mode === 'autopilot') return want('absent', GPU);
  if (goal.kind === 'model') return want(goal.verb === 'load' ? 'loaded' : 'absent', null);
  return [];
}
