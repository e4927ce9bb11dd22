import type { Events } from './api'

type Handler<T> = (detail: T) => void

export type Handlers = { [E in keyof Events]?: Array<Handler<Events[E]>> }

export function on<E extends keyof Events>(handlers: Handlers, event: E, handler: Handler<Events[E]>): () => void {
  const list: Array<Handler<Events[E]>> = (handlers[event] = handlers[event] || [])
  // Of its own, so that a handler that is added twice is told twice and removed once.
  const entry = (detail: Events[E]) => handler(detail)
  list.push(entry)
  return () => {
    const i = list.indexOf(entry)
    if (i >= 0) list.splice(i, 1)
  }
}

/** emit tells the handlers. */
export function emit<E extends keyof Events>(handlers: Handlers, event: E, detail: Events[E]): void {
  ;(handlers[event] || []).slice().forEach((handler) => tell(handler, detail))
}

/** tell calls back the program. What it throws stops nobody, and the program's onError has it. */
export function tell<T>(handler: Handler<T> | undefined, detail: T): void {
  try {
    if (handler) handler(detail)
  } catch (e) {
    setTimeout(() => {
      throw e
    })
  }
}
