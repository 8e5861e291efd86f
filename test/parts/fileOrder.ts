/** Which test file begins when. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Each runs for minutes on several hosts at once: side by side they would slow each other down, at the end all the rest waits. */
const LONGEST = ['sequences.test.ts', 'serviceSequences.test.ts'];

export class FileOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLongest = ({ moduleId }: TestSpecification) => LONGEST.some((name) => moduleId.endsWith(`/${name}`));
    const others = sorted.filter((file) => !isLongest(file));
    const [first, ...later] = sorted.filter(isLongest);
    if (first === undefined) return others;
    return [first, ...others.slice(0, others.length / 2), ...later, ...others.slice(others.length / 2)];
  }
}
