import { Ollama as Client, type Fetch } from 'ollama';
import { Agent, fetch as undiciFetch } from 'undici';
import { abortError, protocolError, type RequestContext, reportedError, transportError } from './ollamaError.js';

/**
 * One connection a request, and no time limit but the caller's signal: loading a big model may take minutes
 * before the first byte, and Ollama cancels a load or an answer only when its connection closes.
 */
const dispatcher = new Agent({ pipelining: 0, headersTimeout: 0, bodyTimeout: 0, connect: { timeout: 0 } });

/**
 * Gives `use` a client of its own, whose every request ends with `signal`, and closes what is still open afterwards.
 * The package's own `abort()` ends all streams of a client and no plain request; hence one client a request.
 * @throws OllamaError, and nothing else.
 */
export async function* withClient<T>(
  request: RequestContext,
  signal: AbortSignal,
  use: (client: Client) => AsyncIterable<T>,
): AsyncGenerator<T, void, undefined> {
  if (signal.aborted) throw abortError(signal.reason, request);
  const connection = new AbortController();
  const onAbort = () => connection.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    yield* use(new Client({ host: request.endpoint, fetch: checkedFetch(request, connection.signal) }));
  } catch (error) {
    throw signal.aborted ? abortError(signal.reason, request) : transportError(error, request);
  } finally {
    signal.removeEventListener('abort', onAbort);
    // Also when the consumer of a stream walks away early: the server then stops generating.
    connection.abort();
  }
}

/** Checks status and content type before the package does: it would print to stdout, and lose what the error is. */
function checkedFetch(request: RequestContext, signal: AbortSignal): Fetch {
  const checked = async (url: string, options: Parameters<typeof undiciFetch>[1]) => {
    const response = await undiciFetch(url, { ...options, signal, dispatcher });
    const type = response.headers.get('content-type') ?? 'no content type';
    if (response.ok) {
      if (/json/i.test(type)) return response;
      throw protocolError(`it answered with ${type} instead of JSON`, request, response.status);
    }
    const body = await response.text();
    const text = reportedText(body);
    if (text === null) {
      throw protocolError(`it answered ${response.status} with ${type}: ${excerpt(body)}`, request, response.status);
    }
    throw reportedError(response.status, text, request);
  };
  // The package calls fetch with a URL string only, and reads of the response what both kinds have.
  return checked as unknown as Fetch;
}

/** Ollama reports as `{"error": "…"}`. */
function reportedText(body: string): string | null {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null && 'error' in parsed && typeof parsed.error === 'string') {
      return parsed.error;
    }
    return null;
  } catch {
    return null; // Not JSON: so not Ollama's; the caller says what it is instead.
  }
}

function excerpt(body: string): string {
  const line = body.replace(/\s+/g, ' ').trim();
  return line.length === 0 ? 'an empty body' : line.slice(0, 160);
}
