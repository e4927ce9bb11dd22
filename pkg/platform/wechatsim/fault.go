package wechatsim

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	maxFaults     = 100
	maxFaultDelay = 10 * time.Minute
)

// Fault makes future platform calls fail. At most one of Errcode, Drop, Empty, Malformed
// and Status is set; Delay can be combined with any of them or set by itself. A call
// meets at most one fault, the first that matches.
type Fault struct {
	// Errcode is answered without any effect: the code stays fresh.
	Errcode int
	// Errmsg replaces the errcode's usual text.
	Errmsg string
	// Drop closes the connection without an answer. Like Empty, Malformed and Status it
	// affects only the answer: the call has taken effect.
	Drop bool
	// Empty answers 200 without a body.
	Empty bool
	// Malformed answers 200 with a body that ends in the middle.
	Malformed bool
	// Status answers this HTTP status, such as 502, with a page of HTML.
	Status int
	// Delay is how long the answer takes, at most ten minutes. The call takes
	// effect before it.
	Delay time.Duration

	// Count is the number of calls that the fault hits. Zero means one, or without limit
	// if there is a Probability.
	Count int
	// Probability is the probability that the fault hits a call, from 0 to 1. Zero means
	// every call.
	Probability float64
	// Path, such as /sns/jscode2session, and AppID restrict the fault.
	Path, AppID string
}

// AddFault adds a fault for future calls. It returns an error for an invalid fault.
func (s *Simulator) AddFault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.Count == 0 && f.Probability == 0 {
		f.Count = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) >= maxFaults {
		return fmt.Errorf("%d faults are waiting, the maximum; clear them first", maxFaults)
	}
	s.faults = append(s.faults, &f)
	return nil
}

// Faults returns the waiting faults, with the rest of their counts.
func (s *Simulator) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := make([]Fault, len(s.faults))
	for i, f := range s.faults {
		faults[i] = *f
	}
	return faults
}

// ClearFaults removes all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (f *Fault) check() error {
	kinds := 0
	for _, set := range []bool{f.Errcode != 0, f.Drop, f.Empty, f.Malformed, f.Status != 0} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return errors.New("set only one of errcode, drop, empty, malformed and status")
	case kinds == 0 && f.Delay == 0:
		return errors.New(`set one of errcode, drop, empty, malformed, status and delay_ms, such as {"errcode":-1,"count":1}`)
	case f.Errmsg != "" && f.Errcode == 0:
		return errors.New("errmsg needs errcode")
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return errors.New("status must be between 200 and 599")
	case f.Delay < 0 || f.Delay > maxFaultDelay:
		return errors.New("delay_ms must be between 0 and 600000")
	case f.Count < 0:
		return errors.New("count must not be negative")
	case !(f.Probability >= 0 && f.Probability <= 1): // false for NaN too
		return errors.New("probability must be between 0 and 1")
	case f.Path != "" && endpoints[f.Path].do == nil:
		return errors.New("path must be one of " + strings.Join(platformPaths(), ", "))
	}
	return nil
}

// takeFault returns the fault that hits the call, or nil.
func (s *Simulator) takeFault(c *call) *Fault {
	for i, f := range s.faults {
		if f.Path != "" && f.Path != c.path || f.AppID != "" && f.AppID != c.appID {
			continue
		}
		if f.Probability > 0 && s.random.Float64() >= f.Probability {
			continue
		}
		hit := *f
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return &hit
	}
	return nil
}

// String returns the fault's name in the list of calls.
func (f *Fault) String() string {
	switch {
	case f == nil:
		return ""
	case f.Errcode != 0:
		return "errcode"
	case f.Drop:
		return "drop"
	case f.Empty:
		return "empty"
	case f.Malformed:
		return "malformed"
	case f.Status != 0:
		return "status"
	}
	return "delay"
}

// answer writes body, changed by the fault, which may be nil.
func (f *Fault) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	if f != nil && f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	switch {
	case f == nil:
	case f.Drop:
		panic(http.ErrAbortHandler) // net/http closes the connection
	case f.Empty:
		body = nil
	case f.Malformed:
		body = body[:len(body)/2]
	case f.Status != 0:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.Status)
		body = fmt.Appendf(nil, "<html><body><h1>%d %s</h1></body></html>", f.Status, http.StatusText(f.Status))
		if f.Status == http.StatusNoContent || f.Status == http.StatusNotModified {
			return
		}
	}
	_, _ = w.Write(body) // an error means that the client hung up
}
