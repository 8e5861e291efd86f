/** The ordered steps from a residency to a target, or a refusal with figures. */

interface StepBase {
  /** `s1`, `s2`, …; stable for equal inputs. */
  id: string;
  tenant: string;
  /** Ids of the steps that must have ended before; steps with none left run side by side. */
  after: string[];
  /** The devices that this step changes, `cpu` among them. */
  devices: string[];
  expectedMs: number;
  /** The most that each GPU is expected to hold while this step runs, MB, strangers included. */
  peakMb: Record<string, number>;
  /** Why this step, in one sentence with figures. */
  why: string;
}

export type PlanStep =
  | (StepBase & { kind: 'unload'; freesMb: Record<string, number> })
  /** `confirms`: it is listed, and has only to prove itself; one that is gone by then is not loaded. */
  | (StepBase & { kind: 'load'; needsMb: number; allowCpu: boolean; confirms: boolean })
  | (StepBase & { kind: 'move'; to: string; freesMb: Record<string, number> });

/** Why a plan was refused; stable strings that clients may switch on. */
export type RefusalCode =
  | 'not-enough-vram'
  | 'never-fits'
  | 'device-unknown'
  | 'device-quarantined'
  | 'driver-unavailable'
  | 'no-gpu'
  | 'part-missing'
  | 'in-use'
  | 'holder-outranks'
  | 'unknown-tenant';

export interface Refusal {
  code: RefusalCode;
  /** One sentence with the VRAM figures. */
  message: string;
  /** What to do about it: what could be unloaded, who holds what. */
  remedy: string;
  /** The figures, per GPU: total, used, free, foreign, needed MB. */
  figures: Record<
    string,
    { totalMb: number | null; usedMb: number | null; freeMb: number | null; foreignMb: number | null }
  >;
  neededMb: number | null;
}

/** A candidate that the planner looked at and did not choose. */
export interface Rejected {
  tenant: string;
  reason: string;
}

export type PlanResult =
  | { kind: 'plan'; steps: PlanStep[]; because: string; displaced: string[]; rejected: Rejected[]; expectedMs: number }
  | { kind: 'refusal'; refusal: Refusal; because: string; rejected: Rejected[] };
