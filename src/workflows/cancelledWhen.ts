import { CancellationScope, condition, isCancellation } from '@temporalio/workflow';

/** Runs the body in a scope of its own, which is cancelled once the condition holds. */
export async function cancelledWhen<T>(holds: () => boolean, body: () => Promise<T>): Promise<T> {
  const scope = new CancellationScope();
  const watch = new CancellationScope();
  void watch
    .run(async () => {
      await condition(holds);
      scope.cancel();
    })
    .catch((error: unknown) => {
      if (!isCancellation(error)) throw error;
    });
  try {
    return await scope.run(body);
  } finally {
    watch.cancel();
  }
}
