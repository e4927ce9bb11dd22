package binding

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform"
)

// byPhone binds a user to the person with the phone number that the platform returns. The
// policy may require facts too, or make a new person for a number that no person has.
type byPhone struct{}

const maxPhoneCodeLen = 512

func (byPhone) check(r *Request) error {
	if err := r.checkMembers(members{fields: true, code: true}); err != nil {
		return err
	}
	if len(r.Code.Reveal()) > maxPhoneCodeLen {
		return auth.Invalid("code must have at most 512 bytes")
	}
	return r.checkFields()
}

func (byPhone) fields(p *auth.Policy) []string { return p.Phone.Check }

func (m byPhone) prepare(a *attempt) (proof, error) {
	macs, err := a.factMACs(m.fields(&a.app.Policy))
	if err != nil {
		return nil, err
	}
	return &phoneProof{a, macs}, nil
}

func (byPhone) excuses(code auth.Code) bool {
	switch code {
	case auth.PlatformQuota, auth.PlatformUnavailable, auth.PlatformMisconfigured, auth.RateLimited,
		auth.BindingMethodDisabled: // the platform has no numbers of such users
		return true
	}
	return false
}

type phoneProof struct {
	a    *attempt
	macs factMACs
}

func (*phoneProof) limits() limits { return limits{} }

func (p *phoneProof) find(ctx context.Context, b *BindParams) error {
	phone, err := p.a.phone(ctx)
	if err != nil {
		return err
	}
	if p.a.app.Policy.Phone.Create {
		b.Target.Phone = phone
		b.Target.New, err = uuid.NewV7()
		return err
	}
	c, err := p.a.s.c.Store.PhoneCandidate(ctx, phone)
	if err != nil {
		return err
	}
	if match := p.macs.match(&c); c.Person == uuid.Nil || match != 1 {
		return auth.BindingNoMatch
	}
	b.Target.Person = c.Person
	return nil
}

// phone gets the user's number from the platform.
func (a *attempt) phone(ctx context.Context) (string, error) {
	provider, ok := a.s.c.Platforms[a.app.Platform]
	if !ok {
		return "", &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("app %s: platform %q is not supported", a.app.ID, a.app.Platform)}
	}
	credentials, err := app.Credentials(a.s.c.Sealer, a.app)
	if err != nil {
		return "", err
	}
	user, err := a.s.c.Store.PlatformAccount(ctx, a.session.Identity)
	if errors.Is(err, auth.NotFound) {
		return "", auth.SessionRevoked // the identity was erased a moment ago
	}
	if err != nil {
		return "", err
	}
	ctx = platform.WithCaller(ctx, a.r.Network)
	phone, err := provider.ExchangePhoneCode(ctx, credentials, user, a.r.Code.Reveal())
	if errors.Is(err, errors.ErrUnsupported) {
		return "", &auth.Error{
			Code: auth.BindingMethodDisabled, Err: err,
			Description: "The platform does not provide a phone number of this user; bind in another way.",
		}
	}
	if err != nil {
		return "", err
	}
	if !auth.ValidPhone(phone) {
		return "", &auth.Error{Code: auth.PlatformUnavailable, Err: errors.New("binding: the platform returned an invalid phone number")}
	}
	return phone, nil
}

// Draft returns the new person for a number that no person has.
func (t *Target) Draft() person.Draft {
	return person.Draft{ID: t.New, Phone: &t.Phone, Source: auth.PersonByPhone}
}
