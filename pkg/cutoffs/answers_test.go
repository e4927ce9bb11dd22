package cutoffs_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	inBubble(t, "a change of the keys or the apps is reported once, and a cutoff is not", func(t *testing.T) {
		w := &world{t: t, db: cutoffstest.New(), log: &logLines{}}
		w.db.Change("k1", "a1")
		c := config(w.db, time.Now, w.log)
		var keys, apps int
		c.OnKeysChange, c.OnAppsChange = func() { keys++ }, func() { apps++ }
		var err error
		if w.Follower, err = cutoffs.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.run()
		want := func(name string, k, a string, wantKeys, wantApps int) {
			t.Helper()
			synctest.Wait()
			last, err := w.LastAnswer()
			if err != nil || last.Keys != k || last.Apps != a || !last.Asked.Equal(time.Now()) {
				t.Errorf("%s: LastAnswer() = %+v, %v; want %s and %s now", name, last, err, k, a)
			}
			if keys != wantKeys || apps != wantApps {
				t.Errorf("%s: %d changes of keys and %d of apps reported, want %d and %d", name, keys, apps, wantKeys, wantApps)
			}
		}
		want("at first", "k1", "a1", 0, 0)
		w.db.Commit(ended(1))
		want("after a cutoff", "k1", "a1", 0, 0)
		w.db.Change("k2", "a1")
		want("after a change of keys", "k2", "a1", 1, 0)
		w.db.Change("k2", "a2")
		want("after a change of apps", "k2", "a2", 1, 1)
		time.Sleep(10 * time.Second)
		want("after ten seconds", "k2", "a2", 1, 1)
	})
	inBubble(t, "a database that fails or hangs is detected, until it answers", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		time.Sleep(time.Hour + time.Millisecond) // between two queries
		want := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := w.Answering(); got != want {
				t.Errorf("Answering() = %t, want %t", got, want)
			}
		}
		want(true)
		w.db.Fail(auth.StorageUnavailable)
		for range 10 {
			time.Sleep(time.Second)
			want(false)
			if _, err := w.LastAnswer(); !errors.Is(err, auth.StorageUnavailable) {
				t.Errorf("LastAnswer() error = %v, want %v", err, auth.StorageUnavailable)
			}
		}
		w.db.Fail(nil)
		time.Sleep(time.Second)
		want(true)
		resume := w.db.Stall()
		time.Sleep(2 * time.Second)
		for range 100 {
			want(false)
			time.Sleep(100 * time.Millisecond)
		}
		resume()
		time.Sleep(time.Second)
		want(true)
	})
	inBubble(t, "an idle replica asks the database once a second", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		before := w.db.Questions()
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked := w.db.Questions() - before; asked != 60 {
			t.Errorf("%d queries in a minute, want 60", asked)
		}
	})
}
