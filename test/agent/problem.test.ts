import { ApplicationFailure, ServiceError, WorkflowFailedError } from '@temporalio/client';
import { RetryState } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { EmbedderError } from '../../src/adapters/clip/embedder.js';
import { OllamaError } from '../../src/adapters/ollama/ollama.js';
import { ProbeFailed } from '../../src/agent/embedderProbe.js';
import { problemOf, RequestProblem } from '../../src/agent/problem.js';

const failed = (details: unknown) =>
  new WorkflowFailedError(
    'Workflow execution failed',
    ApplicationFailure.nonRetryable('load a: no room', 'Refused', details),
    RetryState.NON_RETRYABLE_FAILURE,
  );

/** What a call ends with that the server refuses, or that does not reach it. */
const temporal = (code: number) =>
  new ServiceError('Failed to start Workflow', {
    cause: Object.assign(new Error('14 UNAVAILABLE'), { code, details: '', metadata: {} }),
  });

describe('an error as an answer (P10)', () => {
  it.each<[string, unknown, number, object]>([
    [
      'a wrong request',
      new RequestProblem(418, 'teapot', 'm', 'r'),
      418,
      { code: 'teapot', message: 'm', remedy: 'r' },
    ],
    [
      'Ollama',
      new OllamaError('unavailable', 'm', 'r'),
      502,
      { code: 'ollama-unavailable', message: 'm. r', remedy: 'r' },
    ],
    ['input to CLIP', new EmbedderError('bad-input', 'm'), 400, { code: 'clip-bad-input', remedy: expect.any(String) }],
    ['CLIP', new EmbedderError('gone', 'm'), 503, { code: 'clip-gone', remedy: expect.any(String) }],
    ['no CLIP', new ProbeFailed('m'), 503, { code: 'clip-unavailable', message: 'm', remedy: expect.any(String) }],
    [
      'a refusal',
      failed({ refusal: { remedy: 'r' } }),
      409,
      { code: 'Refused', message: 'load a: no room', remedy: 'r' },
    ],
    ['a failure', failed({ refusal: null, failure: { remedy: 'r' } }), 409, { remedy: 'r' }],
    ['a failure without details', failed(undefined), 409, { code: 'Refused', remedy: null }],
    [
      'a body too large',
      Object.assign(new Error('m'), { statusCode: 413 }),
      413,
      { code: 'bad-input', message: 'm', remedy: 'send less at a time' },
    ],
    [
      'a body that is no JSON',
      Object.assign(new Error('m'), { statusCode: 415 }),
      415,
      { code: 'bad-input', message: 'm', remedy: expect.stringContaining('application/json') },
    ],
    ['another one', Object.assign(new Error('m'), { statusCode: 400 }), 400, { remedy: expect.stringContaining('m') }],
    ['Temporal that is away', temporal(14), 503, { code: 'unavailable', remedy: expect.stringContaining('doctor') }],
    ['Temporal that does not answer in time', temporal(4), 503, { code: 'unavailable' }],
    ['Temporal that refuses', temporal(3), 500, { code: 'internal' }],
    ['a bug', new Error('m'), 500, { code: 'internal', message: 'm' }],
    ['a bug that is no error', 'm', 500, { code: 'internal', message: 'm' }],
  ])('%s', (_, error, status, body) => {
    expect(problemOf(error)).toMatchObject({ status, body });
  });

  it('names the field that is wrong', () => {
    const { error } = z.strictObject({ prompt: z.string() }).safeParse({ prompt: 1 });
    expect(problemOf(error)).toMatchObject({ status: 400, body: { message: expect.stringContaining('prompt') } });
  });
});
