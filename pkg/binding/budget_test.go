package binding_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
	"github.com/yufu-auth/yufu/pkg/person"
)

// staff adds persons with consecutive numbers. Every hundredth has the most common name.
func (w *world) staff(t *testing.T, n int) {
	t.Helper()
	var drafts []person.Draft
	for i := range n {
		number, name := fmt.Sprint(2000+i), fmt.Sprint("员工", i)
		if i%100 == 50 {
			name = "王伟"
		}
		facts, err := w.Facts.MACs(map[string]*string{"employee_no": &number, "name": &name})
		if err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, person.Draft{ID: uuid.Must(uuid.NewV7()), ExternalID: number, Name: &name, Facts: facts})
	}
	if _, err := w.store.UpsertPersons(t.Context(), person.Upsert{Drafts: drafts, Event: w.Event(auth.AuditPersonsImported)}); err != nil {
		t.Fatal(err)
	}
}

// crowd is a number of logged-in users, each with another address.
type crowd struct {
	w      *world
	tokens []auth.Secret
}

func (w *world) crowd(name string, n int) *crowd {
	c := &crowd{w: w}
	for i := range n {
		c.tokens = append(c.tokens, w.Login(fmt.Sprint(name, i)).AccessToken)
	}
	return c
}

// facts tries to bind user i by facts.
func (c *crowd) facts(i, number int, name string) error {
	g, err := c.w.Bind(binding.Request{
		AccessToken: c.tokens[i], Method: auth.BindFacts, Network: fmt.Sprintf("192.0.2.%d/32", i),
		Fields: map[string]string{"employee_no": fmt.Sprint(number), "name": name},
	})
	if g.Changed {
		c.tokens[i] = g.AccessToken
	}
	return err
}

func TestGuessingAcrossPersons(t *testing.T) {
	t.Parallel()
	t.Run("guesses of many users at many numbers are delayed for the app", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.staff(t, 1000)
		mallory, honest := w.crowd("mallory", 200), w.crowd("honest", 20)
		start := w.Clock.Now()
		var judged, taken, slowed, tries, served int
		arrived := 0
		guess := func(i int) {
			switch err := mallory.facts(i%200, 2000+(i*387)%1000, "王伟"); auth.CodeOf(err) {
			case auth.BindingNoMatch:
				judged++
			case auth.BindingDelayed:
				slowed++
			case "":
				judged, taken = judged+1, taken+1
			default:
				t.Fatal(err)
			}
		}
		// Two minutes of ten tries a second. Every six seconds an honest user tries to
		// bind, and tries again a second after each refusal.
		waiting := []int{}
		for step := range 1200 {
			if step%60 == 30 {
				waiting, arrived = append(waiting, arrived), arrived+1
			}
			if step%10 == (step/10)%10 {
				var still []int
				for _, i := range waiting {
					tries++
					switch err := honest.facts(i, 2600+i, fmt.Sprint("员工", 600+i)); auth.CodeOf(err) {
					case "":
						served++
					case auth.BindingDelayed:
						still = append(still, i)
					default:
						t.Fatalf("an honest user: error = %v", err)
					}
				}
				waiting = still
			}
			if step < 1000 {
				guess(step)
			}
			w.Clock.Advance(100 * time.Millisecond)
		}
		t.Logf("of 1000 guesses %d were judged and %d took a person; of %d honest users %d were served, after %d tries",
			judged, taken, arrived, served, tries)
		// Without a limit the guesses take ten persons. 61 guesses are free, then one a
		// second is admitted.
		if judged > 61+100 || taken > 2 || slowed < 800 {
			t.Errorf("%d guesses judged, %d persons taken, %d guesses delayed, want at most 161, at most 2, at least 800", judged, taken, slowed)
		}
		if served < arrived*9/10 {
			t.Errorf("%d of %d honest users were served, want at least 90 %%", served, arrived)
		}
		if n, want := int(w.Binding.RefusedFactAttempts()), slowed+tries-served; n != want {
			t.Errorf("RefusedFactAttempts() = %d, want %d", n, want)
		}
		minutes := int(w.Clock.Now().Sub(start)/time.Minute) + 1
		if n := w.count(t, `select count(*) from audit where action = 'binding.facts_slowed' and appid = 'wxdevelopment0001'`); n < 1 || n > minutes {
			t.Errorf("%d audit events in %d minutes, want 1 to one a minute", n, minutes)
		}
		if n := w.count(t, `select count(*) from audit where action = 'binding.facts_slowed' and (identity_uuid is not null or json_extract(detail, '$.failures') <= 60)`); n != 0 {
			t.Errorf("%d audit events name a user or have at most 60 failures, want 0", n)
		}
	})

	// slow makes n failed attempts, each as another user, until facts are delayed.
	slow := func(t *testing.T, w *world, n int) {
		t.Helper()
		mallory := w.crowd("mallory", n)
		for i := range n {
			if err := mallory.facts(i, 7000+i, "x"); auth.CodeOf(err) != auth.BindingNoMatch {
				t.Fatalf("guess %d: error = %v, want %v", i, err, auth.BindingNoMatch)
			}
		}
	}
	t.Run("concurrent guesses are admitted as sequential ones", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		mallory := w.crowd("mallory", 70)
		var judged atomic.Int32
		var wg sync.WaitGroup
		for i := range 70 {
			wg.Go(func() {
				switch err := mallory.facts(i, 7000+i, "x"); auth.CodeOf(err) {
				case auth.BindingNoMatch:
					judged.Add(1)
				case auth.BindingDelayed:
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := judged.Load(); n != 61 {
			t.Errorf("%d guesses were judged, want 61", n)
		}
		if n := w.count(t, `select count(*) from audit where action = 'binding.facts_slowed'`); n != 1 {
			t.Errorf("%d audit events, want 1", n)
		}
		// Delayed guesses are not counted for their users.
		if n := w.count(t, `select coalesce(sum(failures), 0) from bind_attempts where kind = 'identity'`); n != 61 {
			t.Errorf("%d failures are counted for users, want 61", n)
		}
	})
	t.Run("the other methods are not delayed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		slow(t, w, 61)
		w.Clock.Advance(time.Second)
		honest := w.crowd("honest", 3)
		if err := honest.facts(0, 1001, "李雷"); err != nil {
			t.Fatalf("the admitted attempt of this second: error = %v", err)
		}
		err := honest.facts(1, 1002, "韩梅梅")
		var e *auth.Error
		if !errors.As(err, &e) || e.Code != auth.BindingDelayed || e.RetryAfter <= 0 || e.RetryAfter > time.Second {
			t.Errorf("facts: error = %v, want %s for at most a second", err, auth.BindingDelayed)
		}
		p := bindingtest.Policy()
		p.SecondIdentity = auth.SecondJoins
		w.SetPolicy(p)
		for _, method := range []auth.BindingMethod{auth.BindTicket, auth.BindPhone, auth.BindWebhook} {
			user := "other" + string(method)
			g, err := methods[method](t, w, w.Login(user).AccessToken, user)
			mustBind(t, g, err)
		}
		w.Clock.Advance(time.Minute + time.Second)
		if err := honest.facts(1, 1002, "韩梅梅"); err != nil {
			t.Errorf("after a quiet minute: error = %v", err)
		}
		if err := honest.facts(2, 7000, "x"); auth.CodeOf(err) != auth.BindingNoMatch {
			t.Errorf("a mistake after a quiet minute: error = %v, want %v", err, auth.BindingNoMatch)
		}
	})
	t.Run("a delayed user does not use up the admitted attempts", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		one, honest := w.crowd("one", 1), w.crowd("honest", 1)
		for i := range 5 {
			_ = one.facts(0, 6000+i, "x")
		}
		slow(t, w, 56)
		w.Clock.Advance(time.Second)
		for range 20 {
			if err := one.facts(0, 6000, "x"); auth.CodeOf(err) != auth.BindingDelayed {
				t.Fatal(err)
			}
		}
		if err := honest.facts(0, 1001, "李雷"); err != nil {
			t.Errorf("an honest user: error = %v", err)
		}
	})
	for name, unbinds := range map[string]bool{"repeated": false, "ended and made again": true} {
		t.Run("the guesser's own binding does not hide guesses, "+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.staff(t, 1)
			mallory, own := w.crowd("mallory", 100), w.crowd("own", 1)
			var judged int
			for i := range 100 {
				switch err := mallory.facts(i, 7000+i, "x"); auth.CodeOf(err) {
				case auth.BindingNoMatch:
					judged++
				case auth.BindingDelayed:
				default:
					t.Fatal(err)
				}
				if err := own.facts(0, 2000, "员工0"); err != nil && auth.CodeOf(err) != auth.BindingDelayed {
					t.Fatal(err)
				}
				if unbinds {
					g, err := w.Binding.Unbind(t.Context(), own.tokens[0], "")
					if err != nil {
						t.Fatal(err)
					}
					if g.Changed {
						own.tokens[0] = g.AccessToken
					}
				}
			}
			if judged > 62 {
				t.Errorf("%d of 100 guesses were judged, want at most 62", judged)
			}
		})
	}
	t.Run("a busy morning is not delayed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.staff(t, 400)
		staff := w.crowd("staff", 400)
		for i := range 400 {
			if i%5 == 0 { // one in five mistypes first
				if err := staff.facts(i, 2000+i, "打错"); auth.CodeOf(err) != auth.BindingNoMatch {
					t.Fatalf("person %d mistypes: error = %v, want %v", i, err, auth.BindingNoMatch)
				}
			}
			name := fmt.Sprint("员工", i)
			if i%100 == 50 {
				name = "王伟"
			}
			if err := staff.facts(i, 2000+i, name); err != nil {
				t.Fatalf("person %d: error = %v", i, err)
			}
		}
	})
	t.Run("a clock that goes back neither shortens nor extends a delay", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		slow(t, w, 61)
		honest := w.crowd("honest", 2)
		w.Clock.Advance(-time.Second)
		if err := honest.facts(0, 1001, "李雷"); err != nil {
			t.Fatalf("the admitted attempt: error = %v", err)
		}
		if err := honest.facts(1, 1002, "韩梅梅"); auth.CodeOf(err) != auth.BindingDelayed {
			t.Errorf("the second attempt: error = %v, want %v", err, auth.BindingDelayed)
		}
	})
}
