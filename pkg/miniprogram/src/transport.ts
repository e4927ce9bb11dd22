// Requests to the service, and bounded waits.

import type { Answer, Wx, WxError } from './api'
import { fail, failed } from './errors'

/** The longest wait for anything, in milliseconds. */
export const patience = 10000

/**
 * bounded waits for a callback for at most `ms`. `start` may return a function that
 * cancels the work. Timers stop in the background; on return a late timer may fire
 * before callbacks that are also due, so these get another second.
 */
export function bounded<T>(
  ms: number,
  what: string,
  start: (resolve: (v: T) => void, reject: (e: unknown) => void) => void | (() => void),
): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: unknown
    let cancel: void | (() => void)
    const settle =
      <V>(f: (v: V) => void) =>
      (v: V): void => {
        clearTimeout(timer)
        f(v)
      }
    const arm = (wait: number, last?: boolean) => {
      const due = Date.now() + wait
      timer = setTimeout(() => {
        if (!last && Date.now() - due > 1000) return arm(1000, true)
        reject(fail('timeout', what))
        if (cancel) cancel()
      }, wait)
    }
    arm(ms)
    try {
      cancel = start(settle(resolve), settle(reject))
    } catch (e) {
      settle(reject)(failed(e as WxError))
    }
  })
}

/** call makes a request to the service. */
export function call(
  wx: Wx,
  ms: number,
  method: string,
  url: string,
  header: Record<string, string>,
  data?: unknown,
): Promise<Answer> {
  return bounded(ms, 'the service did not answer', (resolve, reject) => {
    const task = wx.request({
      url,
      method,
      header,
      data,
      timeout: ms,
      dataType: 'json',
      redirect: 'manual',
      success: resolve,
      fail: (e) => reject(failed(e)),
    })
    return () => task && task.abort && task.abort()
  })
}

/** form encodes a body of type application/x-www-form-urlencoded. */
export function form(fields: Record<string, string>): string {
  return Object.keys(fields)
    .map((name) => `${name}=${encodeURIComponent(fields[name])}`)
    .join('&')
}

export const formHeader = { 'content-type': 'application/x-www-form-urlencoded' }
