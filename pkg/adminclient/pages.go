package adminclient

import (
	"errors"
	"iter"
)

// Page selects the part of a list to return.
type Page struct {
	// Limit is the maximum number of items of a page: 1 to 1,000, by default 100.
	Limit int
	// Cursor is the Next of the page before, or "" for the first page.
	Cursor string
}

// all returns the items of all pages from one on. After an error it ends.
func all[T any](first Page, list func(Page) (items []T, next *string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for page := first; ; {
			items, next, err := list(page)
			if err == nil && next != nil && *next == page.Cursor {
				err = errors.New("adminclient: the cursor of the next page is the same")
			}
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			page.Cursor = *next
		}
	}
}
