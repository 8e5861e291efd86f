/** The peer that an operation is measured against: the same number of activities and nothing else. */
import { proxyActivities } from '@temporalio/workflow';

export interface BareInput {
  taskQueue: string;
  activities: number;
}

export async function bare({ taskQueue, activities }: BareInput): Promise<number> {
  const { nothing } = proxyActivities<{ nothing(): Promise<void> }>({ taskQueue, startToCloseTimeout: '10s' });
  for (let i = 0; i < activities; i += 1) await nothing();
  return activities;
}
