// What a phone has beyond ECMAScript 2015, as far as this package uses it. The
// compiler knows no other globals, so that nothing else is used by mistake.

declare function setTimeout(handler: () => void, ms?: number): unknown
declare function clearTimeout(timer: unknown): void
