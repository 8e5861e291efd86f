import { request as httpRequest, type IncomingMessage } from 'node:http';

/** An open answer that sends one JSON value a line. */
export interface LineStream {
  /** Cuts the connection. */
  close(): void;
}

export interface LineListener {
  line(value: unknown): void;
  /** Once, when no more comes: the other side ended, refused or never answered. */
  end(): void;
}

/** Opens a request whose answer is a stream of JSON lines, and keeps it open. */
export function openLines(
  url: string,
  method: 'GET' | 'POST',
  body: object | null,
  listener: LineListener,
): LineStream {
  let ended = false;
  const end = (): void => {
    if (ended) return;
    ended = true;
    listener.end();
  };
  const headers = body === null ? {} : { 'content-type': 'application/json' };
  const request = httpRequest(url, { method, headers, agent: false }, (response: IncomingMessage) => {
    let rest = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') listener.line(JSON.parse(line) as unknown);
    });
    // An answer of one piece, such as an error, has no newline at its end.
    response.on('end', () => {
      if (rest !== '') listener.line(JSON.parse(rest) as unknown);
    });
    response.on('close', end);
  });
  request.on('error', end);
  request.end(body === null ? undefined : JSON.stringify(body));
  return { close: () => request.destroy() };
}
