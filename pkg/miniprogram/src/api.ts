// What a mini-program sees of this package: shapes alone, no code.

/** How `createYufu` is set up. */
export interface YufuOptions {
  /** Where the Yufu service is: `https://host` without a path. */
  baseURL: string
  /** The mini-program's appid. */
  clientId: string
  /** A label by which users recognise this device among theirs; cut to 64 characters. */
  device?: string
  /**
   * The hosts of your back ends, `host` or `host:port`. The access token goes to
   * these and to that of `baseURL`, over https, and nowhere else.
   */
  apiHosts?: string[]
  /** The platform's API. Without it, the global `wx`. */
  wx?: Wx
  /** What gives a log-in code; it is called as `wx.login` is. Without it, `wx.login`. */
  login?: (options: LoginOptions) => void
  /** Allow http to hosts that are not this machine, for tests on a phone. Whoever is on the way reads the tokens. */
  unsafePlainHTTP?: boolean
}

/** What `login` is called with: it calls one of the two, once. */
export interface LoginOptions {
  success: (result: { code: string }) => void
  fail: (error: { errMsg?: string }) => void
}

/** What this package uses of the platform's API. */
export interface Wx {
  request(options: WxRequest): Partial<RequestTask> | undefined
  login(options: LoginOptions): void
  getStorageSync(key: string): unknown
  setStorageSync(key: string, data: unknown): void
  removeStorageSync(key: string): void
  onAppShow?(listener: () => void): void
}

/** What `wx.request` is called with. */
export interface WxRequest {
  url: string
  data?: unknown
  header?: Record<string, unknown>
  method?: string
  timeout?: number
  dataType?: string
  responseType?: string
  redirect?: 'follow' | 'manual'
  success?(result: Answer): void
  fail?(error: WxError): void
}

/** What the platform says of a call that failed. */
export interface WxError {
  errMsg?: string
  errno?: number
  /** Of an error that was thrown. */
  message?: string
}

/** Whose session it is. */
export interface Session {
  /** Names the user in this mini-program. An identifier, never a credential. */
  uuid: string
  /** Whether the user is bound to a person of your business. */
  bound: boolean
  /** That person, or null. */
  person: Person | null
}

/** A person of your business. */
export interface Person {
  id: string
  external_id: string
  name: string
}

/** What went wrong. */
export interface YufuError extends Error {
  /**
   * The service's error code (see the guide's table), or one of: `network` (no
   * answer), `timeout`, `interrupted` (by the background), `aborted`,
   * `login_failed` (by the platform, before there was a code), `bad_answer` (of
   * something that is not the service), `host_not_listed`, `redirected` (to another
   * host), `storage`.
   */
  code: string
  /** For people who develop, in English. Also the `errMsg` of `fail`. */
  errMsg: string
  /** The HTTP status, or 0. */
  status: number
  /** Seconds after which to try again, or 0. */
  retryAfter: number
  /** By which the service's log knows the request, or an empty string. */
  requestId: string
  /** What the business says to the user, when it refuses to bind; or an empty string. */
  userMessage: string
  /** WeChat's number of the failure, if there is one. */
  errno?: number
}

/** A request, as for `wx.request`. */
export interface RequestOptions {
  /** Absolute, and on a host of `apiHosts` or that of `baseURL`. */
  url: string
  data?: unknown
  header?: Record<string, unknown>
  method?: string
  timeout?: number
  dataType?: string
  responseType?: string
  /**
   * `'manual'` gives the answer that redirects to `success`. Otherwise redirects
   * within the origin of `url` are followed, up to five, and any other fails
   * with `redirected`.
   */
  redirect?: 'follow' | 'manual'
  success?: (result: Answer) => void
  fail?: (error: YufuError) => void
  complete?: (result: Answer | YufuError) => void
  [more: string]: unknown
}

/** An answer of any status, as `wx.request` gives it to `success`. */
export interface Answer {
  statusCode: number
  // biome-ignore lint/suspicious/noExplicitAny: the JSON of your own back end, read without a cast as with wx.request
  data: any
  header: Record<string, string>
  // biome-ignore lint/suspicious/noExplicitAny: `unknown` does not take the interfaces of WeChat's typings, and then `wx` is no `Wx`
  [more: string]: any
}

/** As `wx.request` returns it. */
export interface RequestTask {
  abort(): void
  onHeadersReceived(listener: (result: Headers) => void): void
  offHeadersReceived(listener?: (result: Headers) => void): void
  onChunkReceived(listener: (result: Chunk) => void): void
  offChunkReceived(listener?: (result: Chunk) => void): void
}

/** The headers of an answer, which come before its body. */
export interface Headers {
  header: Record<string, string>
  statusCode: number
  cookies?: string[]
}

/** A part of the body of an answer. */
export interface Chunk {
  data: ArrayBuffer
}

/** How to bind: a method of the app's policy, and what it asks for. */
export type BindRequest =
  | { method: 'facts'; fields: Record<string, string> }
  | { method: 'phone'; code: string }
  | { method: 'ticket'; ticket: string }
  | { method: 'webhook'; fields: Record<string, string> }
  | { method: string; [more: string]: unknown }

/** What `on` tells, and with what. */
export interface Events {
  /** The user is not bound: found out at log-in, or no longer. */
  unbound: Session
  /** The user is bound, or bound to another person: found out at log-in, or from now on. */
  bound: Session
  /** There is no session, and there will be none by itself. `code` is `logout`, or why the service refuses the user. */
  signedout: { code: string }
  /** A log-in or a refresh failed. Requests that needed it were told, too. */
  error: YufuError
}

/** A client of the service. */
export interface Yufu {
  /**
   * Like `wx.request`, with the access token. Waits for the log-in, if one is
   * needed; after a 401 it refreshes once and tries once more.
   */
  request(options: RequestOptions): RequestTask
  /** Like `request`, as a promise. It rejects with a `YufuError`. */
  fetch(options: RequestOptions): Promise<Answer>
  /** Who the user is. Logs in silently, or refreshes, when needed. */
  session(): Promise<Session>
  /** Binds the user to a person. */
  bind(request: BindRequest): Promise<Session>
  /** Unbinds the user from the person. */
  unbind(): Promise<Session>
  /**
   * Ends the session. This device has forgotten it in any case; the promise
   * rejects if the service could not be told. The next request logs in again.
   */
  logout(): Promise<void>
  /** Has the handler told of an event, whichever page or copy of the client causes it. Returns what ends that. */
  on<E extends keyof Events>(event: E, handler: (detail: Events[E]) => void): () => void
}
