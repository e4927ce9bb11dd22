package binding

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// attempt is a request after the check against the policy of its app.
type attempt struct {
	s       *Service
	r       *Request
	session *auth.Session
	app     *auth.App
	now     time.Time
	method  method
	proof   proof
	limits  limits
	// admission is that of the app's failure budget.
	admission admission
}

// newAttempt returns the attempt, or an error if the request is not valid for the app's
// policy.
func (s *Service) newAttempt(m method, r *Request, current *auth.Session, app *auth.App) (*attempt, error) {
	if !app.Policy.Allows(r.Method) {
		return nil, auth.BindingMethodDisabled
	}
	a := &attempt{s: s, r: r, session: current, app: app, now: s.now(), method: m}
	var err error
	if a.proof, err = m.prepare(a); err != nil {
		return nil, err
	}
	a.limits = a.proof.limits()
	return a, nil
}

// event returns an audit event of the attempt.
func (a *attempt) event(action auth.AuditAction) auth.AuditEvent {
	return auth.AuditEvent{
		At: a.now, Action: action, Actor: auth.ActorBearer,
		AppID: a.session.AppID, Identity: a.session.Identity, Session: a.session.ID, RequestID: a.r.RequestID,
		Detail: map[string]any{"method": a.r.Method},
	}
}

// bind finds the person and binds the identity.
func (a *attempt) bind(ctx context.Context) (BindResult, error) {
	b := BindParams{
		Session: a.session.ID, Ver: a.session.Ver, Method: a.r.Method,
		Second: a.app.Policy.Second(), Rebind: a.app.Policy.SelfUnbind, Now: a.now,
		Event: a.event(auth.AuditBound),
	}
	if err := a.proof.find(ctx, &b); err != nil {
		return BindResult{}, err
	}
	return a.s.c.Store.Bind(ctx, b)
}

// reserve counts the attempt, or returns [auth.BindingDelayed]. An attempt that must
// wait because of its own keys uses up nothing of the app's budget.
func (a *attempt) reserve(ctx context.Context) (Reservation, error) {
	if a.limits.budget {
		if wait := a.s.budgets.wait(a.app.ID, a.now); wait > 0 {
			return Reservation{}, a.refuseOverBudget(ctx, wait)
		}
	}
	keys := append([]auth.AttemptKey{auth.IdentityAttempts(a.session.Identity)}, a.limits.keys...)
	reserved, err := a.s.c.Store.Reserve(ctx, keys, a.now, a.event(auth.AuditBindingDelayed))
	if err != nil {
		return Reservation{}, err
	}
	if reserved.Wait > 0 {
		return Reservation{}, &auth.Error{
			Code: auth.BindingDelayed, RetryAfter: reserved.Wait,
			Err: errors.New("binding: attempt before the end of the delay"),
		}
	}
	if a.limits.budget {
		var wait time.Duration
		if a.admission, wait = a.s.budgets.admit(a.app.ID, a.now); wait > 0 {
			// A concurrent attempt used up the budget.
			_ = a.s.c.Store.Refund(ctx, reserved)
			return Reservation{}, a.refuseOverBudget(ctx, wait)
		}
	}
	return reserved, nil
}

// refuseOverBudget returns the error of an attempt while the failure budget of its app is
// used up. It audits this once a minute.
func (a *attempt) refuseOverBudget(ctx context.Context, wait time.Duration) error {
	if attempts, failures, audit := a.s.budgets.recordRefusal(a.app.ID, a.now); audit {
		err := a.s.c.Store.RecordRefusal(ctx, auth.AuditEvent{
			At: a.now, Action: auth.AuditFactsSlowed, Actor: auth.ActorService, AppID: a.app.ID, RequestID: a.r.RequestID,
			Detail: map[string]any{"attempts": attempts, "failures": failures, "seconds": budgetSeconds},
		})
		if err != nil {
			a.s.budgets.auditAgain(a.app.ID)
			return err
		}
	}
	return &auth.Error{
		Code: auth.BindingDelayed, RetryAfter: wait,
		Err: errors.New("binding: too many failed attempts in this app; one per second is allowed"),
	}
}

// settleTimeout bounds the writes after an attempt.
const settleTimeout = 10 * time.Second

// settle refunds an attempt that was right or that could not be judged, and audits any
// other attempt. Person is the bound person, if nothing failed. It returns the attempt's
// error.
func (a *attempt) settle(ctx context.Context, reserved Reservation, person *auth.Person, err error) error {
	// This goes on if the client hangs up: a success must be refunded, and a failure
	// audited.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	failed := err != nil && a.clientsFault(err)
	if a.limits.budget && !failed {
		var bound uuid.UUID
		if err == nil && person != nil {
			bound = person.ID
		}
		a.s.budgets.settle(a.admission, bound)
	}
	if !failed {
		// If this fails, the attempt stays counted until it is forgiven.
		_ = a.s.c.Store.Refund(ctx, reserved)
		return err
	}
	event := a.event(auth.AuditBindingRefused)
	event.Detail["code"] = auth.CodeOf(err)
	if e := a.s.c.Store.RecordRefusal(ctx, event); e != nil {
		return e // a refusal that is not audited is not answered
	}
	return err
}

// clientsFault reports whether a failed attempt counts against the client. It does not
// if the database, the platform, the webhook or this service failed. It does if the
// client hung up during the attempt.
func (a *attempt) clientsFault(err error) bool {
	code := auth.CodeOf(err)
	switch code {
	case auth.StorageUnavailable, auth.SessionRevoked, auth.AppDisabled:
		return false
	case auth.Internal:
		return errors.Is(err, context.Canceled)
	}
	return !a.method.excuses(code)
}
