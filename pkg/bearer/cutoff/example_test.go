package cutoff_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// A validator reads the feed into a set and asks the set about each token.
func Example() {
	const session = "01900000-0000-7c00-8000-00000000000a"
	feed := strings.NewReader(`event: cutoff
data: {"kind":"session","session":"` + session + `","ver":3}

event: ready
id: 8f.12
data: {"age_ms":40,"now":"2026-11-01T08:00:00Z","max_staleness_ms":30000,"app":"wx0123456789abcdef"}

`)
	set := cutoff.NewSet()
	for r := cutoff.NewReader(feed); ; {
		event, err := r.Next()
		if errors.Is(err, io.EOF) {
			break // connect again, with the last id as Last-Event-ID
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		switch event.Name {
		case cutoff.EventCutoff:
			c, err := cutoff.ParseCutoff(event.Data)
			switch {
			case errors.Is(err, cutoff.ErrUnknownKind):
				continue // the feed says the same in base kinds
			case err != nil:
				fmt.Println(err)
				return
			}
			set.Add(c, time.Now())
		case cutoff.EventReady:
			fmt.Println("up to date at", event.ID)
		}
	}
	for ver := int64(2); ver <= 3; ver++ {
		fmt.Println("token with ver", ver, "revoked:", set.Hits(cutoff.Token{Session: session, Ver: ver}))
	}
	// Output:
	// up to date at 8f.12
	// token with ver 2 revoked: true
	// token with ver 3 revoked: false
}
