// How the API is asked. The token is in this tab's memory and session storage, and in the header of each call: never in a URL.

const KEY = "fender-token";
/** No answer takes longer. */
const PATIENCE = 10_000;

let token = sessionStorage.getItem(KEY) ?? "";

export const known = () => token !== "";

export function keep(secret) {
  token = secret;
  if (secret) sessionStorage.setItem(KEY, secret);
  else sessionStorage.removeItem(KEY);
}

/** What the API says no with. */
export class No extends Error {
  constructor(status, detail, after) {
    super(detail);
    this.status = status;
    /** To be waited for, in seconds. */
    this.after = after;
  }
}

/** One call, up to its answer's head. */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  const all = { accept: "application/json", ...headers };
  if (token) all.authorization = `Bearer ${token}`;
  if (body !== undefined) all["content-type"] = "application/json";
  const answer = await fetch(path, {
    method, headers: all, signal, cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const after = Number(answer.headers.get("retry-after")) || 0;
  throw new No(answer.status, problem.detail ?? `the API answered ${answer.status}`, after);
}

export async function get(path, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  const answer = await call("GET", asked ? `${path}?${asked}` : path, { signal: AbortSignal.timeout(PATIENCE) });
  return answer.json();
}

/** As `get`, but null where there is no such thing. */
export async function maybe(path, query) {
  try {
    return await get(path, query);
  } catch (no) {
    if (no instanceof No && no.status === 404) return null;
    throw no;
  }
}

export async function post(path, body, etag) {
  const headers = etag ? { "if-match": etag } : {};
  const answer = await call("POST", path, { body, headers, signal: AbortSignal.timeout(60_000) });
  return answer.json();
}
