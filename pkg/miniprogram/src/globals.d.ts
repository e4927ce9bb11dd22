// The globals beyond ECMAScript 2015 that phones have and this package uses. The compiler
// knows no others, so that they are not used by mistake.

declare function setTimeout(handler: () => void, ms?: number): unknown
declare function clearTimeout(timer: unknown): void
