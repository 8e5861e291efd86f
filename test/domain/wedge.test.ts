import { expect, it } from 'vitest';
import { isWedged } from '../../src/domain/wedge.js';

it.each([
  ['the first try', 1, null, false],
  ['a task that failed once, as when its worker starts', 2, 'no such file', false],
  ['a task that fails again and again', 3, 'TMPRL1100', true],
  ['a worker that was killed in the task', 2, null, false],
  ['workers that were killed one after the other', 5, null, false],
  ['a task that takes too long for every worker', 6, null, true],
])('%s', (_name, attempt, failure, wedged) => {
  expect(isWedged({ attempt, failure })).toBe(wedged);
});
