const maxValue = 1 << 20
const maxAll = 10 << 20

/** A phone's storage for one mini-program: 1 MB a key, 10 MB in total. Values are copied as JSON. */
export class Storage {
  /** The content as JSON, for tests to inspect and to damage. */
  readonly raw = new Map<string, string>()
  /** If true, every write fails. */
  full = false

  get(key: string): unknown {
    const text = this.raw.get(key)
    return text === undefined ? '' : JSON.parse(text)
  }

  set(key: string, value: unknown): void {
    const text = JSON.stringify(value)
    if (text === undefined) throw new Error('setStorageSync:fail data is not serializable')
    let all = text.length
    for (const [k, v] of this.raw) if (k !== key) all += v.length
    if (this.full || text.length > maxValue || all > maxAll)
      throw new Error('setStorageSync:fail exceed storage max size 10Mb')
    this.raw.set(key, text)
  }

  remove(key: string): void {
    this.raw.delete(key)
  }
}
