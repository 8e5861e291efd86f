/** Docker's log stream, read as lines: frames of two outputs, each message with its time in front. */

export interface LogLine {
  /** RFC 3339 with nanoseconds, as Docker wrote it. */
  time: string;
  text: string;
}

/** One byte for the output, three of nothing, four for the length of what follows. */
const HEADER_BYTES = 8;
const LENGTH_AT = 4;
const NEWLINE = 0x0a;

/** A line that is longer comes in pieces: a progress bar may never end its own. */
const LONGEST_LINE_BYTES = 64 * 1024;

/** Takes the stream in any pieces; the lines of each come out as soon as they are whole. */
export interface LogReader {
  push(chunk: Buffer): LogLine[];
  /** What stands without a newline at the end. */
  end(): LogLine[];
}

/** @param tty a container with a terminal has one output, without frames */
export function createLogReader(tty: boolean): LogReader {
  return tty ? createTerminalReader() : createFrameReader();
}

/** A time, in seconds since the epoch as Docker's `since` takes them, moved by so many nanoseconds. */
export function secondsOf(time: string, moveNs = 0n): string {
  const [, whole = time, fraction = '', zone = 'Z'] = /^(.{19})(?:\.(\d{1,9}))?(.*)$/.exec(time) ?? [];
  const ns = BigInt(Date.parse(whole + zone)) * 1_000_000n + BigInt(fraction.padEnd(9, '0')) + moveNs;
  const [seconds, rest] = [ns / 1_000_000_000n, ns % 1_000_000_000n];
  return `${seconds}.${String(rest).padStart(9, '0')}`;
}

function createFrameReader(): LogReader {
  const outputs = new Map<number, Output>();
  let waiting: Buffer = Buffer.alloc(0);
  return {
    push(chunk) {
      const lines: LogLine[] = [];
      waiting = Buffer.concat([waiting, chunk]);
      for (;;) {
        if (waiting.length < HEADER_BYTES) break;
        const end = HEADER_BYTES + waiting.readUInt32BE(LENGTH_AT);
        if (waiting.length < end) break;
        const which = waiting.readUInt8(0);
        const output = outputs.get(which) ?? new Output();
        outputs.set(which, output);
        lines.push(...output.message(waiting.subarray(HEADER_BYTES, end)));
        waiting = waiting.subarray(end);
      }
      return lines;
    },
    end: () => [...outputs.values()].flatMap((output) => output.rest()),
  };
}

function createTerminalReader(): LogReader {
  const output = new Output();
  let waiting: Buffer = Buffer.alloc(0);
  /** The rest of a line that was given in pieces has no time in front. */
  let inLine = false;
  const give = (bytes: Buffer): LogLine[] => {
    const lines = inLine ? output.more(bytes) : output.message(bytes);
    inLine = bytes.at(-1) !== NEWLINE;
    return lines;
  };
  return {
    push(chunk) {
      const lines: LogLine[] = [];
      waiting = Buffer.concat([waiting, chunk]);
      for (let end = waiting.indexOf(NEWLINE) + 1; end > 0; end = waiting.indexOf(NEWLINE) + 1) {
        lines.push(...give(waiting.subarray(0, end)));
        waiting = waiting.subarray(end);
      }
      if (waiting.length <= LONGEST_LINE_BYTES) return lines;
      lines.push(...give(waiting));
      waiting = Buffer.alloc(0);
      return lines;
    },
    end: () => [...(waiting.length === 0 ? [] : give(waiting)), ...output.rest()],
  };
}

/** One of the two outputs. Docker cuts long lines into messages, each of which has a time in front. */
class Output {
  #time: string | null = null;
  #text: Buffer = Buffer.alloc(0);
  /** Of the latest message. */
  #latest = '';

  message(bytes: Buffer): LogLine[] {
    const blank = bytes.indexOf(' ');
    this.#latest = bytes.toString('utf8', 0, blank);
    return this.more(bytes.subarray(blank + 1));
  }

  /** Goes on with the message before. */
  more(bytes: Buffer): LogLine[] {
    this.#time ??= this.#latest;
    this.#text = Buffer.concat([this.#text, bytes]);
    const lines: LogLine[] = [];
    for (let end = this.#lineEnd(); end !== null; end = this.#lineEnd()) {
      lines.push({ time: this.#time ?? this.#latest, text: textOf(this.#text.subarray(0, end)) });
      this.#text = this.#text.subarray(this.#text[end] === NEWLINE ? end + 1 : end);
      this.#time = this.#text.length > 0 ? this.#latest : null;
    }
    return lines;
  }

  rest(): LogLine[] {
    return this.#text.length === 0 ? [] : [{ time: this.#time ?? '', text: textOf(this.#text) }];
  }

  #lineEnd(): number | null {
    const end = this.#text.indexOf(NEWLINE);
    if (end >= 0) return Math.min(end, LONGEST_LINE_BYTES);
    return this.#text.length >= LONGEST_LINE_BYTES ? LONGEST_LINE_BYTES : null;
  }
}

const textOf = (line: Buffer): string => line.toString('utf8').replace(/\r$/, '');
