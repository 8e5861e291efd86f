/** One YAML text → plain values, the place of every key, and every problem of form. */
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLError } from 'yaml';
import { formatPath, type KeyPath } from './keyPath.js';
import type { Tree, Value } from './layer.js';
import { type Origin, type Problem, problemAt } from './problem.js';

interface ParsedYaml {
  tree: Tree;
  /** By formatted key path. */
  origins: Map<string, Origin>;
  problems: Problem[];
}

const REMEDY: Partial<Record<YAMLError['code'], string>> = {
  TAB_AS_INDENT: 'Indent with spaces: YAML does not allow tabs.',
  BAD_INDENT: 'Close every bracket, and line the keys of one map up with each other.',
  MULTIPLE_DOCS: 'Keep one document: remove the `---` line and what follows.',
  MISSING_CHAR: 'Close the quote or the bracket.',
  BLOCK_AS_IMPLICIT_KEY: 'Put the value in quotes, or the inner key on a line of its own.',
  TAG_RESOLVE_FAILED: 'Remove the tag: plain values are enough here.',
};

export function parseYaml(text: string, file: string, from: Origin['from']): ParsedYaml {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const origins = new Map<string, Origin>();
  const problems: Problem[] = [];

  const at = (offset: number): Origin => {
    const { line, col } = lines.linePos(offset);
    return { from, file, line, column: col };
  };

  // Keys that are there twice are named where the tree is read.
  const malformed = document.errors.filter(({ code }) => code !== 'DUPLICATE_KEY');
  for (const error of firstOfEachLine([...malformed, ...document.warnings], lines)) {
    const remedy = REMEDY[error.code] ?? 'Correct the YAML at this place.';
    problems.push(problemAt(at(error.pos[0]), null, `is not valid YAML: ${lowerFirst(error.message)}.`, remedy));
  }
  // After any other error the tree is a guess, and problems found in it would mislead.
  const trustworthy = malformed.length === 0;

  const valueOf = (node: Node | null, path: KeyPath): Value => {
    if (node === null) return null;
    if (isMap(node)) {
      const tree: Tree = {};
      for (const pair of node.items) {
        const key = pair.key as Node;
        const offset = key.range?.[0] ?? 0;
        if (!isScalar(key) || !isName(key.value)) {
          problems.push(
            problemAt(at(offset), path, 'has a key that is not a plain name.', 'Write the key as one word.'),
          );
          continue;
        }
        const name = String(key.value);
        const below = [...path, name];
        const first = origins.get(formatPath(below));
        if (first !== undefined) {
          problems.push(problemAt(at(offset), below, `is there already in line ${first.line}.`, 'Keep one of them.'));
          continue;
        }
        origins.set(formatPath(below), at(offset));
        tree[name] = valueOf(pair.value as Node | null, below);
      }
      return tree;
    }
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const below = [...path, String(index)];
        origins.set(formatPath(below), at((item as Node).range?.[0] ?? 0));
        return valueOf(item as Node, below);
      });
    }
    if (isScalar(node)) return node.value as Value;
    problems.push(
      problemAt(at(node.range?.[0] ?? 0), path, 'is an alias, which is not supported.', 'Write the value out here.'),
    );
    return null;
  };

  if (!trustworthy) return { tree: {}, origins, problems };
  const root = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return { tree: {}, origins, problems };
  if (!isMap(root)) {
    const offset = root.range?.[0] ?? 0;
    problems.push(
      problemAt(at(offset), null, 'must be a map of keys and values.', 'Write lines such as `log_level: info`.'),
    );
    return { tree: {}, origins, problems };
  }
  return { tree: valueOf(root, []) as Tree, origins, problems };
}

/** One slip makes the parser complain several times; the first complaint of a line is the useful one. */
function firstOfEachLine(errors: YAMLError[], lines: LineCounter): YAMLError[] {
  const byLine = new Map<number, YAMLError>();
  for (const error of errors) {
    const { line } = lines.linePos(error.pos[0]);
    if (!byLine.has(line)) byLine.set(line, error);
  }
  return [...byLine.values()];
}

/** A number is a good name too (`1:`); an empty key is not. */
const isName = (key: unknown): key is string | number =>
  typeof key === 'number' || (typeof key === 'string' && key !== '' && key !== '__proto__');

const lowerFirst = (sentence: string): string =>
  sentence.charAt(0).toLowerCase() + sentence.slice(1).replace(/\.$/, '');
