import type { Events } from './api'

type Handler<T> = (detail: T) => void

export type Handlers = { [E in keyof Events]?: Array<Handler<Events[E]>> }

export function on<E extends keyof Events>(handlers: Handlers, event: E, handler: Handler<Events[E]>): () => void {
  const list: Array<Handler<Events[E]>> = (handlers[event] = handlers[event] || [])
  // A new function, so that a handler that is added twice is called twice and removed
  // once.
  const entry = (detail: Events[E]) => handler(detail)
  list.push(entry)
  return () => {
    const i = list.indexOf(entry)
    if (i >= 0) list.splice(i, 1)
  }
}

/** emit calls the handlers of an event. */
export function emit<E extends keyof Events>(handlers: Handlers, event: E, detail: Events[E]): void {
  ;(handlers[event] || []).slice().forEach((handler) => notify(handler, detail))
}

/**
 * notify calls a handler of the program. An error that it throws stops no other code, and
 * reaches the program's onError.
 */
export function notify<T>(handler: Handler<T> | undefined, detail: T): void {
  try {
    if (handler) handler(detail)
  } catch (e) {
    setTimeout(() => {
      throw e
    })
  }
}
