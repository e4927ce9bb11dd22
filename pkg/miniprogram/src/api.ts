// The types of this package for mini-programs, without code.

/** The options of `createYufu`. */
export interface YufuOptions {
  /** The address of the Yufu service: `https://host` without a path. */
  baseURL: string
  /** The mini-program's appid. */
  clientId: string
  /** A label by which users recognise this device among theirs; cut to 64 characters. */
  device?: string
  /**
   * The hosts of your back ends, `host` or `host:port`. The access token is sent only to
   * these and to the host of `baseURL`, and only over https.
   */
  apiHosts?: string[]
  /** The platform's API. By default, the global `wx`. */
  wx?: Wx
  /** Gets a log-in code; it is called like `wx.login`. By default, `wx.login`. */
  login?: (options: LoginOptions) => void
  /**
   * Allow http to hosts other than this machine, for tests on a phone. Every host on the
   * network path can read the tokens.
   */
  unsafePlainHTTP?: boolean
}

/** The argument of `login`, which must call one of the two functions, once. */
export interface LoginOptions {
  success: (result: { code: string }) => void
  fail: (error: { errMsg?: string }) => void
}

/** The part of the platform's API that this package uses. */
export interface Wx {
  request(options: WxRequest): Partial<RequestTask> | undefined
  login(options: LoginOptions): void
  getStorageSync(key: string): unknown
  setStorageSync(key: string, data: unknown): void
  removeStorageSync(key: string): void
  onAppShow?(listener: () => void): void
}

/** The argument of `wx.request`. */
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

/** The platform's error of a failed call. */
export interface WxError {
  errMsg?: string
  errno?: number
  /** The message of a thrown error. */
  message?: string
}

/** The user of the session. */
export interface Session {
  /** The user's id in this mini-program. An identifier, never a credential. */
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

/** An error of this package. */
export interface YufuError extends Error {
  /**
   * The service's error code (see the guide's table), or one of: `network` (no answer),
   * `timeout`, `interrupted` (by the background), `aborted`, `login_failed` (by the
   * platform, before there was a code), `bad_answer` (from a server that is not the
   * service), `host_not_listed`, `redirected` (to another host), `storage`.
   */
  code: string
  /** A text for developers, in English. Also the `errMsg` of `fail`. */
  errMsg: string
  /** The HTTP status, or 0. */
  status: number
  /** Seconds after which to try again, or 0. */
  retryAfter: number
  /** The id of the request in the service's log, or an empty string. */
  requestId: string
  /** The business's message for the user, when it refuses to bind; or an empty string. */
  userMessage: string
  /** WeChat's error number, if there is one. */
  errno?: number
}

/** A request, with the options of `wx.request`. */
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
   * `'manual'` passes the redirect itself to `success`. Otherwise up to five redirects
   * within the origin of `url` are followed, and any other redirect fails with
   * `redirected`.
   */
  redirect?: 'follow' | 'manual'
  success?: (result: Answer) => void
  fail?: (error: YufuError) => void
  complete?: (result: Answer | YufuError) => void
  [more: string]: unknown
}

/** An answer with any status, as `wx.request` passes it to `success`. */
export interface Answer {
  statusCode: number
  // biome-ignore lint/suspicious/noExplicitAny: the JSON of your own back end, read without a cast as with wx.request
  data: any
  header: Record<string, string>
  // biome-ignore lint/suspicious/noExplicitAny: `unknown` does not take the interfaces of WeChat's typings, and then `wx` is no `Wx`
  [more: string]: any
}

/** The task that `wx.request` returns. */
export interface RequestTask {
  abort(): void
  onHeadersReceived(listener: (result: Headers) => void): void
  offHeadersReceived(listener?: (result: Headers) => void): void
  onChunkReceived(listener: (result: Chunk) => void): void
  offChunkReceived(listener?: (result: Chunk) => void): void
}

/** The headers of an answer, which arrive before its body. */
export interface Headers {
  header: Record<string, string>
  statusCode: number
  cookies?: string[]
}

/** A part of an answer's body. */
export interface Chunk {
  data: ArrayBuffer
}

/** How to bind: a method of the app's policy, and its parameters. */
export type BindRequest =
  | { method: 'facts'; fields: Record<string, string> }
  | { method: 'phone'; code: string }
  | { method: 'ticket'; ticket: string }
  | { method: 'webhook'; fields: Record<string, string> }
  | { method: string; [more: string]: unknown }

/** The events of `on`, with the argument of their handlers. */
export interface Events {
  /** The user is not bound: detected at log-in, or no longer bound. */
  unbound: Session
  /** The user is bound, or bound to another person: detected at log-in, or from now on. */
  bound: Session
  /**
   * There is no session, and none will start by itself. `code` is `logout`, or the reason
   * why the service refuses the user.
   */
  signedout: { code: string }
  /** A log-in or a refresh failed. Requests that needed it fail too. */
  error: YufuError
}

/** A client of the service. */
export interface Yufu {
  /**
   * Like `wx.request`, with the access token. It waits for the log-in if one is needed;
   * after a 401 it refreshes once and tries once more.
   */
  request(options: RequestOptions): RequestTask
  /** Like `request`, as a promise, which rejects with a `YufuError`. */
  fetch(options: RequestOptions): Promise<Answer>
  /** Returns the user. Logs in silently, or refreshes, if needed. */
  session(): Promise<Session>
  /** Binds the user to a person. */
  bind(request: BindRequest): Promise<Session>
  /** Unbinds the user from the person. */
  unbind(): Promise<Session>
  /**
   * Ends the session. This device forgets it in any case; the promise rejects if the
   * service could not be reached. The next request logs in again.
   */
  logout(): Promise<void>
  /**
   * Calls the handler for each event, regardless of the page or copy of the client that
   * causes it. Returns a function that removes the handler.
   */
  on<E extends keyof Events>(event: E, handler: (detail: Events[E]) => void): () => void
}
