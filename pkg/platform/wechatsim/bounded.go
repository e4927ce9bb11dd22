package wechatsim

import "container/list"

// bounded is a map that drops its oldest entries, so that a simulator that runs for weeks
// does not fill the memory.
type bounded[K comparable, V any] struct {
	max   int
	items map[K]*list.Element
	order *list.List // of entry[K, V], oldest first
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newBounded[K comparable, V any](max int) *bounded[K, V] {
	return &bounded[K, V]{max: max, items: make(map[K]*list.Element), order: list.New()}
}

func (b *bounded[K, V]) get(key K) (value V, ok bool) {
	if e, ok := b.items[key]; ok {
		return e.Value.(entry[K, V]).value, true
	}
	return value, false
}

// put stores the value as the newest entry.
func (b *bounded[K, V]) put(key K, value V) {
	if e, ok := b.items[key]; ok {
		b.order.Remove(e)
	}
	b.items[key] = b.order.PushBack(entry[K, V]{key, value})
	if len(b.items) > b.max {
		b.dropOldest()
	}
}

// dropWhile drops entries, oldest first, until one is not stale.
func (b *bounded[K, V]) dropWhile(stale func(V) bool) {
	for e := b.order.Front(); e != nil && stale(e.Value.(entry[K, V]).value); e = b.order.Front() {
		b.dropOldest()
	}
}

func (b *bounded[K, V]) dropOldest() {
	e := b.order.Front()
	delete(b.items, e.Value.(entry[K, V]).key)
	b.order.Remove(e)
}

// ring keeps the values that were added last.
type ring[V any] struct {
	values []V
	next   int
	full   bool
}

func newRing[V any](size int) *ring[V] { return &ring[V]{values: make([]V, size)} }

func (r *ring[V]) add(v V) {
	r.values[r.next] = v
	r.next = (r.next + 1) % len(r.values)
	r.full = r.full || r.next == 0
}

// all returns a copy, oldest first.
func (r *ring[V]) all() []V {
	if !r.full {
		return append([]V{}, r.values[:r.next]...)
	}
	return append(append([]V{}, r.values[r.next:]...), r.values[:r.next]...)
}
