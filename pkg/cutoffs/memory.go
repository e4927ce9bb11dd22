package cutoffs

import (
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// HitsKey reports whether a cutoff hits all tokens that the signing key has signed.
func (f *Follower) HitsKey(kid string) bool { return f.set.Hits(cutoff.Token{KID: kid}) }

// Hitting returns the cutoffs that hit a token minted from the row, whichever key
// signs it.
func (f *Follower) Hitting(row *auth.Session) []auth.Cutoff {
	return rowCutoffs(f.set.Hitting(cutoff.Token{Session: row.ID.String(), Ver: row.Ver, App: row.AppID, Epoch: row.Epoch}))
}

// Cutoffs returns the cutoffs of sessions and apps, one for each session and app.
func (f *Follower) Cutoffs() []auth.Cutoff { return rowCutoffs(f.set.All()) }

// rowCutoffs returns the cutoffs of sessions and apps, which have rows, as stores know them.
func rowCutoffs(wire []cutoff.Cutoff) []auth.Cutoff {
	if len(wire) == 0 {
		return nil
	}
	rows := make([]auth.Cutoff, 0, len(wire))
	for _, c := range wire {
		switch c.Kind {
		case cutoff.KindSession:
			if id, err := uuid.Parse(c.Session); err == nil {
				rows = append(rows, auth.Cutoff{Kind: auth.CutoffSession, Session: id, Ver: c.Ver})
			}
		case cutoff.KindApp:
			rows = append(rows, auth.Cutoff{Kind: auth.CutoffApp, AppID: c.App, Epoch: c.Epoch})
		default:
		}
	}
	return rows
}
