import { describe, expect, it } from 'vitest';
import { asked, evidence, GPU, recordOf, request, start, took } from './doctored.js';
import { textsCame } from './outcomes.js';
import type { Generated } from './trace.js';

const answered = recordOf(start, request('request-start'), request('request-end'));
const refused = { code: 'Refused', message: 'there is no room' };
const judged = (change: Partial<Generated>, record = answered, calm = true) =>
  textsCame(evidence({ trace: asked(change), record, calm }));

describe('a request for a text', () => {
  it('was answered by the model', () => {
    expect(judged({})).toEqual([]);
    expect(judged({}, recordOf(start))).toEqual([expect.stringMatching(/said to have answered, and has not/)]);
    expect(judged({ hasText: false })).toHaveLength(1);
  });

  it('may fail on a host that is disturbed, or where its caller leaves, else for no reason', () => {
    const error = { code: 'OperationFailed', message: 'it did not work' };
    expect(judged({ error }, answered, false)).toEqual([]);
    expect(judged({ error, left: true })).toEqual([]);
    expect(judged({ error })).toEqual([expect.stringMatching(/^M13: .* failed: OperationFailed: it did not work/)]);
  });

  it('is refused only where there is no room', () => {
    const game = took({
      holder: 'g1',
      holderKind: 'compute',
      name: 'game',
      gpu: GPU,
      holderMb: 20_000,
      usedMb: 20_000,
    });
    expect(judged({ error: refused })).toEqual([expect.stringMatching(/failed: Refused/)]);
    expect(judged({ error: refused }, recordOf(start, game))).toEqual([]);
  });

  it('is cut off only where the model was unloaded', () => {
    const message = 'the grace for requests in flight has passed';
    expect(judged({ error: { code: 'internal', message } })).toHaveLength(1);
  });
});
