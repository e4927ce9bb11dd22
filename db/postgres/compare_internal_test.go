package postgres

import "testing"

func TestComparison(t *testing.T) {
	t.Parallel()
	var c comparison
	due := func(what string, uses int64, want bool) {
		t.Helper()
		if got := c.due(uses); got != want {
			t.Errorf("%s: due() = %t, want %t", what, got, want)
		}
	}
	due("before the first comparison", 0, true)
	c.record("a", 1)
	for range compareEvery - 1 {
		due("an unused pool", 1, false)
	}
	due("the last query of an interval", 1, true)
	due("after a comparison that got no connection", 1, true)
	c.record("a", 2)
	due("after a comparison", 2, false)
	due("after a use of the pool", 3, true)
	due("until the connection was compared", 3, true)
	c.record("a", 4)
	due("after that", 4, false)
	if !c.holds("a") || c.holds("b") {
		t.Errorf("holds(a), holds(b) = %t, %t, want true, false", c.holds("a"), c.holds("b"))
	}
}
