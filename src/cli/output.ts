/** How commands speak: data goes to stdout, talk to stderr, so that a pipe gets data only. */
import { stripVTControlCharacters, styleText } from 'node:util';
import type { CliContext } from './context.js';

export type Format = 'text' | 'json';

/** Colours, or their absence. */
export type Style = Record<'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan', (text: string) => string>;

export interface Output {
  readonly format: Format;
  /** One whole answer: a JSON document, or what `renderText` makes of it. */
  data<T>(value: T, renderText: (value: T, style: Style) => string): void;
  /** One of many that come as they happen: a JSON document a line, or what `renderText` makes of it. */
  item<T>(value: T, renderText: (value: T, style: Style) => string): void;
  /** For the person watching: progress, hints, warnings. */
  talk(line: string | ((style: Style) => string)): void;
}

export function createOutput(context: Pick<CliContext, 'env' | 'stdout' | 'stderr'>, format: Format): Output {
  const dataStyle = styleFor(context.stdout, context.env);
  const talkStyle = styleFor(context.stderr, context.env);
  const print = <T>(value: T, indent: number, renderText: (value: T, style: Style) => string) => {
    const text = format === 'json' ? JSON.stringify(value, null, indent) : renderText(value, dataStyle);
    context.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
  };
  return {
    format,
    data: (value, renderText) => print(value, 2, renderText),
    item: (value, renderText) => print(value, 0, renderText),
    talk: (line) => void context.stderr.write(`${typeof line === 'string' ? line : line(talkStyle)}\n`),
  };
}

/** Colours only for a terminal, and not where NO_COLOR is set (https://no-color.org) or TERM is dumb. */
export const isColoured = (stream: NodeJS.WritableStream, env: NodeJS.ProcessEnv): boolean =>
  (stream as { isTTY?: boolean }).isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb';

function styleFor(stream: NodeJS.WritableStream, env: NodeJS.ProcessEnv): Style {
  const coloured = isColoured(stream, env);
  const paint = (format: keyof Style) => (text: string) =>
    coloured ? styleText(format, text, { validateStream: false }) : text;
  return {
    bold: paint('bold'),
    dim: paint('dim'),
    red: paint('red'),
    green: paint('green'),
    yellow: paint('yellow'),
    cyan: paint('cyan'),
  };
}

export interface Column {
  title: string;
  /** Default left; figures go right. */
  align?: 'left' | 'right';
}

/** A plain aligned table, two spaces between columns; colours in cells do not disturb it. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], style?: Style): string {
  const width = (text: string) => stripVTControlCharacters(text).length;
  const widths = columns.map((column, index) =>
    Math.max(width(column.title), ...rows.map((row) => width(row[index] ?? ''))),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map((column, index) => {
        const cell = cells[index] ?? '';
        const space = ' '.repeat((widths[index] ?? 0) - width(cell));
        return column.align === 'right' ? space + cell : cell + space;
      })
      .join('  ')
      .trimEnd();
  const titles = columns.map((column) => (style ? style.bold(column.title) : column.title));
  return [line(titles), ...rows.map(line)].join('\n');
}
