import type { Events } from './api'

export type Handlers = { [event: string]: Array<(detail: any) => void> }

export function on(handlers: Handlers, event: string, handler: (detail: any) => void): () => void {
  const list = (handlers[event] = handlers[event] || [])
  // Of its own, so that a handler that is added twice is told twice and removed once.
  const entry = (detail: any) => handler(detail)
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
export function tell(handler: ((detail: any) => void) | undefined, detail: any): void {
  try {
    if (handler) handler(detail)
  } catch (e) {
    setTimeout(() => {
      throw e
    })
  }
}
